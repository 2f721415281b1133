/* What reading and writing of safetensors share: the hash of the contents. It is the sum, modulo
 * 2^64, of one XXH3 per tensor (of its name, type, shape and data) and one per metadata entry other
 * than "hash": so it does not depend on their order. */
#ifndef RUNTIME_SAFETENSORS_INTERNAL_H
#define RUNTIME_SAFETENSORS_INTERNAL_H

#include "runtime/safetensors.h"

/* a tensor's data are hashed in such pieces, each seeded with what came before */
enum { ST_HASH_PIECE = 1 << 20 };
#define ST_HASH_FORMAT "xxh3:%016llx"

uint64_t st_hash_meta(const char *key, const char *value);
uint64_t st_hash_begin(const StTensor *);

#endif
