/* What the files of runtime/vk share. The Vulkan loader is opened when it is first needed, so that
 * a program that only prints its help runs on a machine without one; its functions are called
 * through the table `vk`. */
#ifndef RUNTIME_VK_INTERNAL_H
#define RUNTIME_VK_INTERNAL_H

#include <pthread.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "runtime/vk/newer.h"
#include "runtime/vk/vk.h"

#define VK_FUNCTIONS(X)                                                                            \
  X(DestroyInstance)                                                                               \
  X(EnumeratePhysicalDevices)                                                                      \
  X(GetPhysicalDeviceProperties2)                                                                  \
  X(GetPhysicalDeviceFeatures2)                                                                    \
  X(GetPhysicalDeviceMemoryProperties)                                                             \
  X(GetPhysicalDeviceQueueFamilyProperties)                                                        \
  X(EnumerateDeviceExtensionProperties)                                                            \
  X(CreateDevice)                                                                                  \
  X(DestroyDevice)                                                                                 \
  X(GetDeviceQueue)                                                                                \
  X(DeviceWaitIdle)                                                                                \
  X(CreateBuffer)                                                                                  \
  X(DestroyBuffer)                                                                                 \
  X(GetBufferMemoryRequirements)                                                                   \
  X(GetBufferDeviceAddress)                                                                        \
  X(AllocateMemory) X(FreeMemory) X(BindBufferMemory) X(MapMemory) X(CreateShaderModule)           \
    X(DestroyShaderModule) X(CreatePipelineLayout) X(DestroyPipelineLayout)                        \
      X(CreateComputePipelines) X(DestroyPipeline) X(CreatePipelineCache) X(DestroyPipelineCache)  \
        X(GetPipelineCacheData) X(CreateCommandPool) X(DestroyCommandPool)                         \
          X(AllocateCommandBuffers) X(FreeCommandBuffers) X(BeginCommandBuffer)                    \
            X(EndCommandBuffer) X(CmdPipelineBarrier) X(CmdCopyBuffer) X(CmdFillBuffer)            \
              X(CmdBindPipeline) X(CmdPushConstants) X(CmdDispatch) X(CreateSemaphore)             \
                X(DestroySemaphore) X(GetSemaphoreCounterValue) X(WaitSemaphores) X(QueueSubmit)   \
                  X(CreateQueryPool) X(DestroyQueryPool) X(GetQueryPoolResults)                    \
                    X(CmdResetQueryPool) X(CmdWriteTimestamp)                                      \
                      X(GetPhysicalDeviceCooperativeMatrixPropertiesKHR) X(CreateShadersEXT)       \
                        X(DestroyShaderEXT) X(GetShaderBinaryDataEXT) X(CmdBindShadersEXT)         \
                          X(GetPhysicalDeviceToolPropertiesEXT)

struct VkFunctions {
#define X(name) PFN_vk##name name;
  VK_FUNCTIONS(X)
#undef X
  PFN_vkEnumerateInstanceLayerProperties EnumerateInstanceLayerProperties; /* of no instance */
};
extern struct VkFunctions vk;

struct Device {
  VkInstance instance;
  VkPhysicalDevice physical;
  VkDevice device;
  VkQueue queue;
  uint32_t family;
  uint32_t timestamp_bits; /* 0: the queue has no timestamps */
  VkPhysicalDeviceMemoryProperties memory;
  VkPhysicalDeviceLimits limit;
  uint8_t uuid[VK_UUID_SIZE]; /* of the pipeline cache's format */
  uint32_t device_id, driver_version;
  bool int64, int16, float64, float16, memory_model; /* features that kernels may use */
  bool matrix, bf16;                   /* cooperative matrices; bf16 alone and in them */
  uint32_t subgroup_operations;        /* VkSubgroupFeatureFlags in compute */
  uint32_t min_subgroup, max_subgroup; /* that a kernel may ask for; both 0 where it cannot */
  bool full_subgroups;                 /* a kernel may ask for no lane to be missing */
  bool shader_objects; /* kernels are made as such, whose binaries are kept, and not as pipelines */
  DeviceInfo info;
};

/* A buffer with memory of its own. */
typedef struct VkBlock {
  VkBuffer buffer;
  VkDeviceMemory memory;
  VkDeviceAddress address; /* of device memory */
  void *host;              /* of host memory */
  uint64_t bytes;
} VkBlock;

/* One recorded command buffer: the longest part of a program that is submitted at once. */
typedef struct Piece {
  VkCommandBuffer commands;
  uint32_t first, n; /* its dispatches */
} Piece;

typedef struct Pieces { /* a program, cut */
  Piece *item;
  int n;
} Pieces;

/* Where one run's inputs and outputs wait on the host, and the copies to and from their places. */
typedef struct IoSlot {
  VkBlock
    block; /* inputs in order, each at a multiple of IO_ALIGN; then outputs: Recorded.output_at */
  VkCommandBuffer copy_in, copy_out;
} IoSlot;
enum { IO_ALIGN = 16 };

typedef struct Recorded { /* a program, once it was run */
  bool ready;
  bool expected; /* exec_prepare was called */
  Pieces pieces;
  Pieces before;           /* those cut by the guess, which runs under way may still use */
  double seconds, guessed; /* that a run took, 0 where that is not known yet, and was thought to */
  VkQueryPool times;       /* two timestamps a dispatch, where they are measured */
  uint64_t *output_at;     /* by output: where in an IoSlot's block */
  IoSlot io[EXEC_RING];
} Recorded;

typedef struct Run { /* under way, or free where ticket is 0 */
  uint64_t ticket;
  uint64_t before; /* the semaphore's value when it was submitted */
  uint32_t program;
  Pieces pieces;
  double began; /* seconds, where no other was under way; else 0 */
} Run;

/* A module that this driver compiled before. */
typedef struct KnownModule {
  uint64_t hash;
  uint64_t at, bytes; /* of what the driver made of it, among the binaries; 0 bytes: none */
} KnownModule;

/* What cache.c keeps between processes. */
typedef struct PipelineCache {
  Buf known;  /* of KnownModule, oldest first */
  Buf binary; /* one after the other */
  Buf driver; /* the driver's bytes */
} PipelineCache;

/* What a driver made of a module: one of them. */
typedef struct Pipeline {
  VkPipeline whole;
  VkShaderEXT shader;
} Pipeline;

/* Where pipelines are made. */
typedef struct PipelineMaker {
  VkDevice device;
  VkPipelineLayout layout;
  VkPipelineCache cache;
  bool sizes_subgroups; /* a kernel may ask for its subgroup's size */
  bool full_subgroups;  /* and for no lane to be missing in one */
  bool shader_objects;  /* as Device's */
} PipelineMaker;

/* A module on its way to its pipeline. */
typedef struct Making {
  enum { MAKING_not, MAKING_asked, MAKING_now, MAKING_done, MAKING_ready } stage;
  bool urgent;     /* a program waits for it */
  bool unknown;    /* to the cache: the driver will compile it */
  bool spare;      /* to be compiled by a spare device first */
  bool compiled;   /* by one */
  VkResult result; /* once done */
  Pipeline pipeline;
  uint64_t hash;
  Buf
    binary; /* what the driver made of it before, or makes of it now; empty where it does not tell */
} Making;

enum { MAX_MAKERS = 64 };
typedef struct Maker { /* one of the threads */
  Exec *exec;
  pthread_t thread;
  bool compiles; /* has a spare device to compile with */
} Maker;

/* Threads that make pipelines. All is read and written under the lock, except that the Exec's own
 * thread reads what nobody changes any more: modules that are done. */
typedef struct Makers {
  pthread_mutex_t lock;
  pthread_cond_t asked, made;
  Maker maker[MAX_MAKERS];
  int n_thread;
  bool stop;
  Making *module; /* by module */
} Makers;

struct Exec {
  Device *dev;
  const Image *image;
  ExecOptions option;
  Arena *arena;
  VkCommandPool pool;
  VkSemaphore semaphore; /* counts command buffers done */
  uint64_t submitted;
  PipelineMaker maker;
  PipelineCache kept;
  Makers makers;
  double waited; /* seconds, for pipelines */
  bool lost;
  VkBlock *chunk;       /* buffer is NULL until the chunk is needed */
  uint64_t chunk_bytes; /* of all that exist */
  VkBlock *arguments;   /* argument tables; buffer is NULL until needed */
  Recorded *program;
  VkBlock staging;
  uint64_t last_ticket;
  Run run[EXEC_RING];
};

/* ---- device.c ---- */
const char *vk_result_name(VkResult);
VkResult device_new(const Device *, VkDevice *, VkQueue *); /* one more of the same kind */

bool device_has(VkPhysicalDevice, const char *extension);

/* ---- extras.c ---- */
void extras_query(Device *); /* after its features of Vulkan 1.2 */
typedef struct ExtraFeatures {
  VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
  VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16;
  VkPhysicalDeviceCooperativeMatrix2FeaturesNV rows;
  VkPhysicalDeviceShaderObjectFeaturesEXT shader;
} ExtraFeatures;
/* For opening the device: the extensions that it needs, at most EXTRA_EXTENSIONS; their features, in
 * front of `next`. */
/* Whether subgroups multiply m × k by k × n matrices of that type with sums in f32. */
bool extras_multiply(const Device *, VkComponentTypeKHR, uint32_t m, uint32_t n, uint32_t k);
enum { EXTRA_EXTENSIONS = 5 };
int extras_extensions(const Device *, const char **name);
void *extras_features(const Device *, ExtraFeatures *, void *next);

/* ---- memory.c ---- */
typedef enum MemoryUse { MEMORY_device, MEMORY_host } MemoryUse;
VkResult block_new(Device *, MemoryUse, uint64_t bytes, VkBlock *out);
void block_free(Device *, VkBlock *);
/* Makes it exist, with its tables; parameters and states zero. */
bool chunk_need(Exec *, uint32_t chunk, Buf *why);
/* Makes the argument table exist with its values; the chunks that it names exist. */
bool arguments_need(Exec *, uint32_t table, Buf *why);
/* n elements of a tensor from the host's 4 bytes each to the device's form, and back. */
void elements_to_device(const ImgTensor *, const void *from, uint64_t n, void *to);
void elements_to_host(const ImgTensor *, const void *from, uint64_t n, void *to);
uint64_t exec_slot(const Exec *, const ImgSlot *); /* what it refers to exists */
void barrier_full(VkCommandBuffer);    /* what kernels and copies did before all that comes */
void barrier_to_host(VkCommandBuffer); /* copies before host reads and other copies */
bool buffer_begin(Exec *, VkCommandBuffer *, Buf *why); /* allocated, and recording */
bool buffer_end(Exec *, VkCommandBuffer, Buf *why);

/* ---- cache.c ---- */
/* Mesa's drivers look for each kernel through a cache on the disk that all programs share, part after part: where others have
 * filled it, that takes longer than to load the kernel. From here on they use a folder of our own, unless the user's environment
 * names one. Before the driver is loaded, and before threads. */
void cache_own_driver(void);
void cache_load(const Device *, PipelineCache *,
                Buf *note); /* why a file that is there is not used */
/* Whether the driver compiled the module before; *binary: what it made of it, empty where that was not kept. */
bool cache_knows(const PipelineCache *, uint64_t hash, Buf *binary);
void cache_learn(PipelineCache *, uint64_t hash, const Buf *binary);
void cache_store(const Device *, const PipelineCache *);

/* ---- needs.c ---- */
bool pipelines_check(const Device *, const Image *, Buf *why); /* what modules ask of the device */

/* ---- pipeline.c ---- */
VkResult pipeline_layout_new(VkDevice, VkPipelineLayout *);
void pipeline_maker_for(const Device *, VkDevice,
                        PipelineMaker *); /* all but its layout and cache */
/* Made of *binary where that is not empty and suits the driver; else of the module, and of shader objects the binary is
 * then put there; NULL: nobody keeps it. Safe in several threads at once. */
VkResult pipeline_new(const PipelineMaker *, const ImgModule *, Buf *binary, Pipeline *);
void pipeline_free(VkDevice, const Pipeline *);
void pipeline_bind(VkCommandBuffer, const Pipeline *);
/* Records a dispatch of no workgroups, for drivers that compile a kernel when it is first used. */
void pipeline_dispatch_nothing(VkCommandBuffer, VkPipelineLayout, const Pipeline *);

/* ---- makers.c ---- */
bool pipelines_open(Exec *, Buf *why);
void pipelines_ask(Exec *, const ImgProgram *);            /* begins to make them, in threads */
bool pipelines_need(Exec *, const ImgProgram *, Buf *why); /* returns when all are there */
void pipelines_meanwhile(Exec *); /* kernels are about to run: all that were asked for are begun */
const Pipeline *pipeline_of(const Exec *, uint32_t module);
void pipelines_close(Exec *);

/* ---- spare.c: a second device of the same driver, with a queue of its own ---- */
typedef struct Spare {
  PipelineMaker maker;
  VkQueue queue;
  VkCommandPool pool;
  bool tried;
} Spare;
/* Has the driver compile the module and keep the result in its own cache on the disk, and fills *binary as pipeline_new
 * does; false where it could not, which costs time only. */
bool spare_compile(Spare *, const Device *, const ImgModule *, Buf *binary);
void spare_close(Spare *);

/* ---- record.c ---- */
bool record_program(Exec *, uint32_t program, Buf *why); /* once more where a run was measured */
bool record_io(Exec *, uint32_t program, int slot, Buf *why);
void record_free(Exec *, uint32_t program);
uint64_t io_aligned(uint64_t bytes); /* up to a multiple of IO_ALIGN */

/* ---- times.c: nothing where no times are measured ---- */
bool times_open(Exec *, Recorded *, uint32_t n_dispatch, Buf *why);
void times_close(Exec *, Recorded *);
void times_reset(VkCommandBuffer, const Recorded *, const Piece *);
void times_write(VkCommandBuffer, const Recorded *, uint32_t dispatch, bool end);

/* ---- submit.c ---- */
bool submit_buffer(Exec *, VkCommandBuffer, Buf *why); /* counts e->submitted up */
bool wait_for(Exec *, uint64_t value, Buf *why);
/* Appends what a call that failed means for the user; false. */
bool exec_fault(Exec *, VkResult, const char *doing, Buf *why);

#endif
