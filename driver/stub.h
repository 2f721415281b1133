/* The runner without an image, as the build embedded it. */
#ifndef DRIVER_STUB_H
#define DRIVER_STUB_H

#include <stddef.h>

const void *stub_data(void);
size_t stub_bytes(void);

#endif
