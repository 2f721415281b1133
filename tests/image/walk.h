/* Touches all that an image holds as the runner would, so that a sanitizer sees what the reader let
 * through. */
#ifndef TESTS_IMAGE_WALK_H
#define TESTS_IMAGE_WALK_H

#include "image/image.h"

/* A hash of everything; dies where an index or a range leaves its bounds. */
uint64_t image_walk(const Image *);
/* Makes length and hash of a damaged image's header fit again, so that the checks behind them are
 * reached. */
void image_mend(uint8_t *bytes, size_t n);

#endif
