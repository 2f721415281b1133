/* profile: where the time of a program goes, by kernel. */
#ifndef RUNTIME_PROFILE_H
#define RUNTIME_PROFILE_H

#include <jansson.h>

#include "runtime/runtime.h"

typedef struct KernelTime { /* of one module */
  const char *label;        /* of its first dispatch: what it computes, with the source place */
  int64_t dispatches;
  double seconds, flops, bytes;
} KernelTime;

typedef struct Profile {
  const Image *image;
  KernelTime *kernel;            /* by module */
  double seconds;                /* of all */
  int64_t steps;                 /* that were added up */
  double peak_flops, peak_bytes; /* a second, that this machine reaches; 0: not known */
} Profile;

Profile *profile_new(Arena *, const Image *);
/* Adds the times of the program's last run (ExecOptions.times). */
bool profile_add(Profile *, Exec *, const ImgProgram *, Buf *why);
/* A table: the kernels of a step, that which takes the most time first. */
void profile_print(const Profile *);
json_t *profile_json(const Profile *);

#endif
