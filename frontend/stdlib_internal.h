/* The library files, embedded by embed.cmake. */
#ifndef FRONTEND_STDLIB_INTERNAL_H
#define FRONTEND_STDLIB_INTERNAL_H

typedef struct StdlibFile {
  const char *name; /* "nn" */
  const char *text;
} StdlibFile;
extern const StdlibFile fe_stdlib[]; /* ended by a NULL name */

#endif
