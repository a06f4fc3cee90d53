"""The files around the source of a learner in C: what a person who writes firmware opens first."""

from rtrl.device._layout import fingerprint
from rtrl.device._pack import HEADER
from rtrl.device._source import Source


def header(name: str, c: Source) -> str:
    n = name.upper()
    delay, late = "", ""
    if c.delay:
        delay = f"#define {n}_DELAY {c.delay} /* steps between an input and its target */\n"
        late = f""" of the input that came {n}_DELAY steps ago (those of the first
               {n}_DELAY steps are looked at by nobody)"""
    return f"""\
/* {name}: a recurrent network that predicts and learns, one timestep after the other.

   There is one learner; its memory is static and nothing is allocated. Call {name}_init first. No
   function may be interrupted by another one of this file. Every call takes the same time, up to
   the updates that are left out where there is nothing to learn. */

#ifndef {n}_H
#define {n}_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {n}_INPUTS {c.sizes.x}      /* numbers in x */
#define {n}_TARGETS {c.sizes.y}     /* numbers in y */
#define {n}_PREDICTIONS {c.sizes.prediction} /* numbers in prediction */
{delay}#define {n}_STATE_BYTES {c.state_bytes + HEADER + 4}u /* of a saved state */
#define {n}_SLOT_BYTES ({n}_STATE_BYTES + 4u) /* of one of the two slots of {name}_keep */
#define {n}_LAYOUT 0x{fingerprint(c.layout):08x}u /* what a saved state has to say to fit */

/* What {name}_load may say beside 0. */
#define {n}_NO_STATE (-1)      /* too short, or no saved state at all */
#define {n}_OTHER_VERSION (-2) /* saved by another version of rtrl */
#define {n}_OTHER_LEARNER (-3) /* of a learner with other parts */
#define {n}_DAMAGED (-4)       /* not as it was written */
#define {n}_NO_MEMORY (-5)     /* read or write said that it failed */

/* Go back to the state that was exported. */
void {name}_init(void);

/* Predict, then learn.

   x           inputs
   y           targets{late}, or NULL if there are none; one that is NaN is no target either
   weight      of the loss; 1 as a rule
   reset       not 0 where a new sequence begins with this timestep
   prediction  gets the prediction, made before y is looked at; must not overlap x or y

   Returns how often something was left out because it was not finite: 0 as a rule; 1 if x, y or the
   loss was not (then nothing is learned from it, and a bad x leaves state and traces as they were)
   or if the gradient was not (then the parameters stay as they were); their sum if both. */
int {name}_step(const float *x, const float *y, float weight, int reset, float *prediction);

/* Predict what {name}_step would for x, and change nothing. */
void {name}_predict(const float *x, float *prediction);

/* Take over a state that {name}_save or rtrl.device.pack wrote. Returns 0, or why not; then nothing
   has changed. */
int {name}_load(const void *bytes, size_t size);

/* Write the state, {n}_STATE_BYTES, for {name}_load or rtrl.device.unpack. Returns the bytes
   written: 0 if size is too small. */
size_t {name}_save(void *bytes, size_t size);

/* Memory that keeps what it holds without power: two slots of {n}_SLOT_BYTES, one after the other.
   Both functions return 0 if all went well. write gets blocks of up to 64 bytes in order, from the
   beginning of a slot to its end: erase the slot when its first block comes, if need be. */
struct {name}_memory {{
    int (*read)(void *context, size_t offset, void *bytes, size_t size);
    int (*write)(void *context, size_t offset, const void *bytes, size_t size);
    void *context;
}};

/* Write the state to the slot that does not hold the newest one. Wherever the power fails, one slot
   stays whole. Returns 0, or why not. */
int {name}_keep(const struct {name}_memory *memory);

/* Take over the newest whole slot. Returns 0, or {n}_NO_STATE if there is none. */
int {name}_recall(const struct {name}_memory *memory);

#ifdef __cplusplus
}}
#endif

#endif
"""


def main(name: str, c: Source) -> str:
    n = name.upper()
    return f"""\
/* Predict and learn rows of numbers: inputs, then targets, separated by commas, a row a line.

   Prints a prediction a line, made before the targets of its row are looked at. A missing number is
   an empty place or "nan"; a row without any target is predicted only. */

#include "{name}.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number at the beginning of a field that ends at a comma or the line's end. */
static float number(const char **text)
{{
    char *end;
    const float value = strtof(*text, &end);
    const int missing = end == *text;
    *text = end + strcspn(end, ",");
    if (**text == ',') {{
        ++*text;
    }}
    return missing ? NAN : value;
}}

int main(void)
{{
    static char line[{max(4096, 32 * (c.sizes.x + c.sizes.y))}];
    float x[{n}_INPUTS], y[{n}_TARGETS], prediction[{n}_PREDICTIONS];

    {name}_init();
    while (fgets(line, sizeof line, stdin)) {{
        const char *text = line;
        int known = 0;
        if (line[strcspn(line, "\\r\\n")] == '\\0' && !feof(stdin)) {{
            fprintf(stderr, "{name}: a line is longer than %u bytes\\n",
                    (unsigned)sizeof line - 2u);
            return 2;
        }}
        line[strcspn(line, "\\r\\n")] = '\\0';
        for (int i = 0; i < {n}_INPUTS; i++) {{
            x[i] = number(&text);
        }}
        for (int i = 0; i < {n}_TARGETS; i++) {{
            y[i] = number(&text);
            known = known || !isnan(y[i]);
        }}
        {name}_step(x, known ? y : NULL, 1.0f, 0, prediction);
        for (int i = 0; i < {n}_PREDICTIONS; i++) {{
            printf(i ? ",%.9g" : "%.9g", (double)prediction[i]);
        }}
        putchar('\\n');
        fflush(stdout);
    }}
    return 0;
}}
"""


def makefile(name: str) -> str:
    return f"""\
# {name} on this machine; ./{name} < rows.csv > predictions.csv
CC ?= cc
# Sums may be taken in another order (several numbers at once); -ffast-math may not be used.
CFLAGS ?= -O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math
WARNINGS = -std=c99 -pedantic -Wall -Wextra

{name}: main.o {name}.o
\t$(CC) $(CFLAGS) -o $@ main.o {name}.o -lm

%.o: %.c {name}.h
\t$(CC) $(WARNINGS) $(CFLAGS) -c -o $@ $<

clean:
\trm -f {name} main.o {name}.o

.PHONY: clean
"""


def sketch(name: str) -> str:
    n = name.upper()
    return f"""\
// Learn from an analogue input: predict its next reading, one reading after the other.
//
// Put {name}.c and {name}.h into the folder of this sketch. For a board with numbers of 32 bits
// (not an AVR); the README says how much memory is needed.

#include "{name}.h"

static float x[{n}_INPUTS], y[{n}_TARGETS], prediction[{n}_PREDICTIONS];
static bool begun = false;

void setup() {{
  Serial.begin(115200);
  {name}_init();
}}

void loop() {{
  const float reading = analogRead(A0) / 1024.0f;
  y[0] = reading;  // the target of the last input is what has come now
  if (begun) {{
    {name}_step(x, y, 1.0f, 0, prediction);
  }}
  begun = true;
  x[0] = reading;
  {name}_predict(x, prediction);
  Serial.print(reading);
  Serial.print('\\t');
  Serial.println(prediction[0]);
  delay(10);
}}
"""


def readme(name: str, c: Source, about: str) -> str:
    n = name.upper()
    late = (
        f""" The targets are those of the inputs {c.delay} row{"s" * (c.delay > 1)} before: a
prediction is of what will be known {c.delay} row{"s" * (c.delay > 1)} later."""
        if c.delay
        else ""
    )
    return f"""\
# {name}

{about}, exported by rtrl as C99 that needs `math.h` and `string.h` alone: one learner, static
memory, no allocation, no recursion. It predicts and goes on learning without Python.

    make
    ./{name} < rows.csv > predictions.csv

A row holds the inputs ({c.sizes.x}), then the targets ({c.sizes.y}), separated by commas; an empty
place is a missing number.{late}

| file | what it is |
|---|---|
| `{name}.h` | the interface, to read first |
| `{name}.c` | the learner |
| `main.c` | rows on standard input, predictions on standard output |
| `{name}.ino` | a sketch for Arduino boards with 32-bit numbers |

| on the device | bytes |
|---|---|
| state (parameters, traces, optimizer, hidden states), RAM | {c.state_bytes:,} |
| scratch, RAM | {c.scratch_bytes:,} |
| the state that was exported, in flash | up to {c.state_bytes:,} |
| a saved state | {c.state_bytes + 36:,} |

A step takes about {c.operations:,} operations on numbers of single precision. For the size of the
code on your target: `arm-none-eabi-gcc -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 \
-mthumb -Os -ffunction-sections -fdata-sections -c {name}.c` and `arm-none-eabi-size {name}.o`; link
with `-Wl,--gc-sections`, and what you don't call (`{name}_predict`, `{name}_save`) takes nothing.

Do not compile with `-ffast-math`: whether numbers are finite is checked at every step. The looser
flags of the `Makefile` are fine.

In Python, `rtrl.device.pack(state)` writes what `{name}_load` takes, and
`rtrl.device.unpack(bytes, like=state)` reads what `{name}_save` wrote ({n}_STATE_BYTES bytes).
"""
