/* Start-up of a bare Cortex-M under an emulator, with semihosting for standard output. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint8_t data_from, data_begin, data_end, __bss_start__, __bss_end__, stack_top;
int main(void);
void initialise_monitor_handles(void);

void start(void)
{
#if __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit on */
#endif
    memcpy(&data_begin, &data_from, (size_t)(&data_end - &data_begin));
    memset(&__bss_start__, 0, (size_t)(&__bss_end__ - &__bss_start__));
    initialise_monitor_handles();
    exit(main());
}

__attribute__((section(".vectors"), used)) void *const vectors[] = {&stack_top, (void *)start};
void _init(void) {}
void _fini(void) {}

/* With -icount shift=0 an instruction takes 1 ns, and a tick of the 25 MHz clock 40 of them. */
static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010;

void clock_start(void)
{
    systick[1] = 0xFFFFFFu;
    systick[2] = 0;
    systick[0] = 5;
}

unsigned long clock_instructions(void)
{
    return 40ul * (0xFFFFFFu - systick[2]);
}
