/* runtime/vk: a device, an image loaded on it, programs run. Knows images, no operation. All
 * functions that can fail return NULL or false with a message for the user in `why`. */
#ifndef RUNTIME_VK_VK_H
#define RUNTIME_VK_VK_H

#include "image/image.h"

typedef struct Device Device;

/* Products of m × k by k × n matrices of 16-bit elements, added up in f32, by subgroups; m = 0: none. */
typedef struct DeviceMatrix {
  uint32_t m, n, k;
} DeviceMatrix;

typedef struct DeviceInfo {
  char name[256], driver[256];
  bool is_cpu, usable;
  char missing[256]; /* what a device that is not usable lacks */
  uint32_t subgroup_size, shared_bytes, max_invocations, vendor_id;
  bool subgroup_shuffle, subgroup_arithmetic;
  DeviceMatrix matrix_f16, matrix_bf16;
  bool matrix_rows; /* rows of such matrices are reduced, and sums become factors, in registers */
  uint32_t cores;   /* compute units; 0: it does not tell */
  bool storage16;   /* buffers may have 16-bit elements, and shaders 16-bit integers */
  uint64_t memory_bytes;   /* of its largest device-local heap */
  uint64_t max_allocation; /* bytes */
  uint32_t api_version;
} DeviceInfo;

/* The first time that devices are asked for, Mesa's drivers are told to keep what they compile in a folder of the user's
 * cache (MESA_SHADER_CACHE_DIR, unless the environment names one): before threads. */
int vk_devices(DeviceInfo *out, int max, Buf *why); /* how many there are; −1: no Vulkan at all */
Device *vk_open(int index,
                Buf *why); /* −1: the best: a discrete GPU before an integrated one before a CPU */
void vk_close(Device *);
const DeviceInfo *vk_info(const Device *);

/* Whether the device has all that the image's kernels need; else in `why` what it lacks. */
bool vk_accepts(const Device *, const Image *, Buf *why);
/* Of a model's targets, which stand in the order of preference, the one to run on the device: the first
 * that it has all for and that is made for its kind; else the first that it has all for. In `why`, line by
 * line, what it lacks for those passed over; NULL where that is all. */
const Image *vk_choose(const Device *, const Image *target, uint32_t n, Buf *why);

/* The folder in the user's cache where alphac and runners keep what they found out; false where there is no
 * home. Makes it when asked. */
bool vk_cache_folder(bool make, Buf *out);
typedef struct ExecOptions {
  bool poison; /* fill scratch and outputs with NaN before every run, to show reads of what was not
                  written */
  bool times;  /* measure each dispatch: exec_times */
  bool no_cache; /* do not read or write the pipeline cache file */
  /* Where pipelines are compiled that were not before; may be NULL. */
  void (*progress)(void *, int done, int total, const char *what);
  void (*note)(void *, const char *text); /* what is wrong and does no harm; may be NULL */
  void *progress_arg;                     /* of both */
} ExecOptions;

typedef struct Exec Exec; /* an image on a device: memory, pipelines (made when a program is first
                             run), command buffers */
Exec *exec_new(Device *, const Image *, const ExecOptions *, Buf *why);
void exec_free(Exec *);
/* The program will run: its pipelines are made meanwhile, in threads. What goes wrong there is said
 * when it runs. Where any are announced so before the first runs, memory is had for those that are,
 * and no other that needs more may run. */
void exec_prepare(Exec *, const ImgProgram *);
/* Whole tensors, host ↔ device (param, state, or a program's io). On the host an element has 4 bytes:
 * f16 and bf16 are the f32 of the same value there, whatever they take on the device. */
bool exec_write(Exec *, const ImgTensor *, const void *from, Buf *why);
bool exec_read(Exec *, const ImgTensor *, void *to, Buf *why);
/* A whole tensor as it lies on the device: these n words again and again. Only they cross the bus. */
bool exec_repeat(Exec *, const ImgTensor *, const uint32_t *word, uint64_t n, Buf *why);

/* Runs a program: input[i] and output[i] as in the program's lists, 4 bytes an element. Outputs may
 * be NULL where unwanted. */
bool exec_run(Exec *, const ImgProgram *, const void *const *input, void *const *output, Buf *why);

/* The same without waiting: up to EXEC_RING runs may be under way, in order. `ticket` is waited for
 * once; outputs are then copied. */
enum { EXEC_RING = 4 };
bool exec_submit(Exec *, const ImgProgram *, const void *const *input, uint64_t *ticket, Buf *why);
bool exec_wait(Exec *, uint64_t ticket, void *const *output, Buf *why);

/* Seconds of the clock on the wall that runs have waited for pipelines: to be made, and to be compiled or loaded by a
 * driver that does so when a kernel is first used. What was made beside other work does not count. */
double exec_pipeline_seconds(const Exec *);

/* Seconds that each dispatch of the program took in its last run, which has ended. */
bool exec_times(Exec *, const ImgProgram *, double *seconds, Buf *why);

#endif
