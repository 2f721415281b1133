#include "driver/stub.h"

__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        "alphac_stub_begin:\n"
        ".incbin \"" STUB_FILE "\"\n"
        "alphac_stub_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char alphac_stub_begin[], alphac_stub_end[];

const void *stub_data(void) { return alphac_stub_begin; }
size_t stub_bytes(void) { return (size_t)(alphac_stub_end - alphac_stub_begin); }
