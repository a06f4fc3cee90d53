/* Commands on standard input, answers on standard output, in the machine's own numbers:
     L n bytes             load a state of n bytes: how it went
     S y? x y weight reset step: what was skipped, the prediction
     P x                   predict: the prediction
     D                     the state, saved
     I                     begin again
     K n                   keep it in two slots, the power failing after n bytes: how it went
     R                     recall it: how it went */
#include "learner.h"

#include <stdio.h>
#include <string.h>

static unsigned char saved[LEARNER_STATE_BYTES];
static unsigned char slots[2 * LEARNER_SLOT_BYTES];
static long power = -1; /* bytes that can still be written; -1: no end */

static int take(void *into, size_t size)
{
    return fread(into, 1, size, stdin) == size;
}

static void give(const void *from, size_t size)
{
    fwrite(from, 1, size, stdout);
}

static int from_slots(void *context, size_t offset, void *bytes, size_t size)
{
    (void)context;
    memcpy(bytes, slots + offset, size);
    return 0;
}

static int to_slots(void *context, size_t offset, const void *bytes, size_t size)
{
    (void)context;
    for (size_t i = 0; i < size; i++) {
        if (power == 0) {
            return 1;
        }
        power -= power > 0;
        slots[offset + i] = ((const unsigned char *)bytes)[i];
    }
    return 0;
}

static const struct learner_memory memory = {from_slots, to_slots, NULL};

int main(void)
{
    static float x[LEARNER_INPUTS], y[LEARNER_TARGETS], prediction[LEARNER_PREDICTIONS];
    char command;
    learner_init();
    while (take(&command, 1)) {
        char known;
        int number, reset;
        float weight;
        switch (command) {
        case 'L':
            take(&number, sizeof number);
            memset(saved, 0, sizeof saved);
            for (int i = 0; i < number; i++) {
                unsigned char byte;
                take(&byte, 1);
                if (i < (int)sizeof saved) {
                    saved[i] = byte;
                }
            }
            number = learner_load(saved, (size_t)number);
            give(&number, sizeof number);
            break;
        case 'S':
            take(&known, 1);
            take(x, sizeof x);
            take(y, sizeof y);
            take(&weight, sizeof weight);
            take(&reset, sizeof reset);
            number = learner_step(x, known ? y : NULL, weight, reset, prediction);
            give(&number, sizeof number);
            give(prediction, sizeof prediction);
            break;
        case 'P':
            take(x, sizeof x);
            learner_predict(x, prediction);
            give(prediction, sizeof prediction);
            break;
        case 'D':
            give(saved, learner_save(saved, sizeof saved));
            break;
        case 'I':
            learner_init();
            break;
        case 'K':
            take(&number, sizeof number);
            power = number;
            number = learner_keep(&memory);
            give(&number, sizeof number);
            break;
        default:
            number = learner_recall(&memory);
            give(&number, sizeof number);
        }
    }
    return 0;
}
