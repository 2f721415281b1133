/* validate: SPIR-V modules are validated in threads while the compiler goes on. */
#ifndef DRIVER_VALIDATE_H
#define DRIVER_VALIDATE_H

#include "base/base.h"

typedef struct Validator Validator;
Validator *validate_new(void);
/* `what` names the kernel in a message; both stay valid until validate_end. */
void validate_add(Validator *, const uint32_t *word, int n_word, const char *what);
/* Waits for all; an invalid module is a bug and dies. */
void validate_end(Validator *);

#endif
