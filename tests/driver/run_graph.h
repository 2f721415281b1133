/* A graph on the device against the evaluator: compiled to an image in memory, run with scratch and
 * outputs poisoned. */
#ifndef TESTS_DRIVER_RUN_GRAPH_H
#define TESTS_DRIVER_RUN_GRAPH_H

#include "codegen/target.h"
#include "image/image.h"
#include "ir/ir.h"
#include "runtime/vk/vk.h"

typedef struct RunDevice {
  Device *device;
  Target target; /* of the device; may be changed, for example to target_portable */
  Arena *arena;
} RunDevice;

/* Opens the best device. false: none, with the reason. */
bool run_open(RunDevice *, Buf *why);
void run_close(RunDevice *);

/* Compiles `g`, a verified graph, as an image of one program, writes the feeds and runs it `times`
 * times, each run starting from the params and states that the one before left. value[i] gets what
 * output i holds then, in `arena`: an update's is read from its param or state. Feeds that are
 * missing are zero. */
bool run_graph(RunDevice *, Arena *, const Graph *g, const Feed *, int n_feed, int times,
               Tensor *value, Buf *why);

/* The same by the evaluator, in f32 or f64. */
bool run_reference(Arena *, const Graph *g, EvalMode, const Feed *, int n_feed, int times,
                   Tensor *value, Buf *why);

/* value[i]: the same in f64; bound[i]: how far from it rounding may put the device's. */
bool run_bounds(Arena *, const Graph *g, const Feed *, int n_feed, int times, Tensor *value,
                Tensor *bound, Buf *why);

/* Where an element is neither as far as `bound` from `f64` nor just what `f32` has: false, with the
 * first such element in `why`. */
bool run_close_enough(const Tensor *got, const Tensor *f64, const Tensor *f32, const Tensor *bound,
                      Buf *why);

/* The param or state of that name, which exists. */
const ImgTensor *run_kept(const Image *, const char *name);

/* 4 bytes an element, as on the device. */
void *run_pack(Arena *, const Type *, const double *data);
void run_unpack(const Type *, const void *bits, double *data);

#endif
