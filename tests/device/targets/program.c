/* Loads a packed state, learns ROWS rows, prints predictions and the state that it then saves, all
   in hexadecimal; case.h holds the data. */
#include "case.h"
#include "learner.h"

#include <stdio.h>
#include <string.h>

#ifdef COUNT
void clock_start(void);
unsigned long clock_instructions(void);
#else
static unsigned char saved[LEARNER_STATE_BYTES];
#endif

int main(void)
{
    float prediction[LEARNER_PREDICTIONS];
    learner_init();
    printf("load %d\n", learner_load(packed, sizeof packed));
#ifdef COUNT
    clock_start();
    for (int t = 0; t < ROWS; t++) {
        learner_step(xs + t * LEARNER_INPUTS, ys + t * LEARNER_TARGETS, 1.0f, 0, prediction);
    }
    printf("instructions %lu\n", clock_instructions() / ROWS);
#else
    for (int t = 0; t < ROWS; t++) {
        unsigned bits;
        learner_step(xs + t * LEARNER_INPUTS, ys + t * LEARNER_TARGETS, 1.0f, 0, prediction);
        memcpy(&bits, prediction, sizeof bits);
        printf("prediction %08x\n", bits);
    }
    printf("state ");
    learner_save(saved, sizeof saved);
    for (unsigned i = 0; i < sizeof saved; i++) {
        printf("%02x", saved[i]);
    }
    printf("\n");
#endif
    return 0;
}
