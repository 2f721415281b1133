/* image: what alphac writes and a runner reads: one model, compiled for one or more targets. The same
 * structures in memory on both sides; image_write and image_read are inverse. docs/formats.md has the
 * bytes. Knows no operation: programs are lists of dispatches. */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include "base/base.h"

enum {
  IMG_VERSION = 4,
  IMG_MAX_TARGETS = 64,
  IMG_MAX_RANK = 8,
  IMG_MAX_SLOTS = 16,
  IMG_ALIGN = 16
};

/* An executable that carries an image ends with: offset and length of the image in the file, 8
 * bytes each, little-endian (the offset a multiple of IMG_ALIGN), then these 8 bytes. */
#define IMG_TRAILER "ALPHAIMG"
enum { IMG_TRAILER_BYTES = 24 };

typedef enum ImgType { IMG_bool, IMG_i32, IMG_f16, IMG_bf16, IMG_f32 } ImgType; /* as DType */

typedef enum ImgClass {             /* lifetime of a chunk of device memory */
                        IMG_PARAM,  /* parameters: in checkpoints */
                        IMG_STATE,  /* what programs keep between runs */
                        IMG_TABLE,  /* constant data of the image */
                        IMG_IO,     /* inputs and outputs of one run */
                        IMG_SCRATCH /* nothing survives a run; programs share it */
} ImgClass;

typedef struct ImgChunk { /* one device allocation */
  uint32_t cls;           /* ImgClass */
  uint64_t bytes;
} ImgChunk;

typedef struct ImgTensor {
  const char *name;
  uint32_t dtype, rank;
  int64_t dim[IMG_MAX_RANK];
  uint32_t chunk;
  uint64_t offset; /* in the chunk */
  uint64_t
    bytes; /* elements times 4, or, of f16 and bf16 where the target has storage16, times 2 */
} ImgTensor;

typedef struct ImgParam {
  ImgTensor t;
  uint32_t trainable, decay;
  const char *init;
} ImgParam;

typedef struct ImgState {
  ImgTensor t;
  uint32_t transient; /* 1: not part of a checkpoint (gradient accumulators) */
} ImgState;

typedef struct ImgTable {
  ImgTensor t;
  const void *data; /* t.bytes, as on the device */
} ImgTable;

typedef struct ImgModule {
  const char *name;
  const uint32_t *word;
  uint32_t n_word;
  uint32_t local[3];
  uint32_t subgroup_size; /* 0: any */
} ImgModule;

typedef enum ImgSlotKind {
  IMG_VALUE,    /* value itself */
  IMG_ADDRESS,  /* address of chunk + value */
  IMG_ARGUMENTS /* address of argument table number `value` */
} ImgSlotKind;

typedef struct ImgSlot { /* 8 bytes, of push constants or of an argument table */
  uint32_t kind;         /* ImgSlotKind */
  uint32_t chunk;        /* of an address */
  uint64_t value;
} ImgSlot;

/* Device memory of its own that holds these slots one after the other, addresses resolved: a
 * dispatch that runs many instances of a kernel finds there what differs between them. */
typedef struct ImgArguments {
  uint32_t n_slot;
  ImgSlot *slot; /* values and addresses */
} ImgArguments;

typedef struct ImgDispatch {
  uint32_t module;
  uint32_t groups[3];
  uint32_t barrier; /* 1: a compute → compute memory barrier before it */
  uint32_t n_slot;
  ImgSlot slot[IMG_MAX_SLOTS];
  const char *label; /* what it computes, with the source place: named when a device is lost or a
                        value goes wrong */
  double flops, bytes;
} ImgDispatch;

typedef struct ImgProgram {
  const char *name;
  uint32_t n_input, n_output, n_dispatch;
  ImgTensor *input,
    *output; /* in IMG_IO chunks; an output may also lie in a PARAM or STATE chunk */
  ImgDispatch *dispatch;
  uint64_t peak_bytes; /* of scratch */
  double flops;        /* of matrix products, forward and backward: what "model FLOP/s" counts */
} ImgProgram;

typedef struct ImgTarget { /* what the device must have */
  const char *name;
  uint32_t subgroup_size; /* 0: any */
  uint32_t subgroup_shuffle, subgroup_arithmetic;
  uint32_t shared_bytes, max_invocations;
  uint32_t storage16; /* 1: f16 and bf16 have 2 bytes an element, else 4 */
  uint32_t cpu; /* 1: the kernels suit CPU drivers, and other devices are better off with others */
} ImgTarget;

/* A model compiled for one target. Those of one file agree in model, configuration, params and states
 * (but for their places, so that checkpoints fit all), and in the names, inputs and outputs of programs;
 * chunks, tables, kernels and dispatches are each one's own. */
typedef struct Image {
  const char *model;  /* its name */
  const char *config; /* JSON: fe_config_json */
  ImgTarget target;
  uint32_t n_chunk, n_param, n_state, n_table, n_module, n_program, n_arguments;
  ImgChunk *chunk;
  ImgParam *param;
  ImgState *state;
  ImgTable *table;
  ImgModule *module;
  ImgProgram *program;
  ImgArguments *arguments;
} Image;

/* Programs and the names that the runner relies on (each an entry of `program`; absent where the model lacks the function):
 *   init          input rng; updates every param and state
 *   train         inputs: the loss function's arguments, rng, total (f32[]: steps of the whole run);
 *                 outputs loss, grad_norm, lr (f32[]), step (i32[]: updates made, this one included), ok (bool[]: 0 where the
 *                 update was skipped because loss or gradient norm is not finite), in f16 loss_scale (f32[]: what the
 *                 next step multiplies the loss by; halved where ok is 0); updates params and states.
 *                 Where train.accumulate > 1 there are instead
 *   micro         inputs: the arguments, rng; rng[3] = number of the micro-batch, 0 starts the sums anew; adds to transient states
 *   update        input total; outputs as train
 *   eval          inputs: the arguments; output loss, and where the loss is a sum over a count: loss_sum, loss_count
 *   eval_row      eval with batch 1, for what is left over
 *   grad          inputs: the arguments, rng; outputs loss and grad.<path> for each trainable parameter
 *   forward.<t>   inputs tokens i32[1, t]; output logits f32[1, t, vocab]; several lengths t, the largest is the context
 *   <entry>       any function asked for with --entry; inputs its arguments; outputs result or result.0 …
 * rng: i32[4] = {seed low, seed high, data step, micro-batch}. State "train.step" i32[]: updates made; in f16
 * "train.loss_scale" f32[] and "train.good_steps" i32[], updates since it last changed.
 * Optimizer states: optim.<state>.<path>. Transient: accum.… */

/* Appends the image to `out`, which it finds a whole number of IMG_ALIGN bytes long (an image is
 * loaded at such an address): the model for n targets, the one to prefer first. Equal kernels and tables
 * are stored once. False for what the format cannot hold: names missing, more than 4 GiB of text,
 * 2^32 records. */
bool image_write(Buf *out, const Image *target, uint32_t n);
/* Checks magic, version, lengths, hash, every index and offset, and that the targets agree; NULL with
 * the reason in `why` for a damaged one. An array, one for each target, at least one. Keeps pointers
 * into `bytes`, which must outlive it. */
const Image *image_read(Arena *, const void *bytes, size_t n, uint32_t *n_target, Buf *why);
/* False with the name where two programs, parameters, states, inputs or outputs of a program have it. */
bool image_distinct(const Image *, Buf *why);
/* False with the first difference in `why` where two images are not of one model as above. */
bool image_agree(const Image *, const Image *, Buf *why);
uint64_t image_elements(const ImgTensor *);
/* Elements of 2 bytes on the device; on the host every element has 4. */
bool image_is_half(const ImgTensor *);
uint64_t image_host_bytes(const ImgTensor *);
const char *image_type_name(uint32_t dtype);                      /* "f32" */
const ImgProgram *image_program(const Image *, const char *name); /* NULL where there is none */
const ImgTensor *image_input(const ImgProgram *, const char *name);
/* Bytes of that chunk that the program needs; 0 where it does not touch it. Scratch that is one chunk
 * is needed as far as the program's peak goes; every other chunk is needed whole. */
uint64_t image_extent(const Image *, const ImgProgram *, uint32_t chunk);
/* Do the program's kernels, inputs or outputs lie in that chunk? */
bool image_uses(const Image *, const ImgProgram *, uint32_t chunk);
const ImgTensor *image_output(const ImgProgram *, const char *name);

#endif
