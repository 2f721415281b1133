/* What the files of runtime/vk share. The Vulkan loader is opened when it is first needed, so that
 * a program that only prints its help runs on a machine without one; its functions are called
 * through the table `vk`. */
#ifndef RUNTIME_VK_INTERNAL_H
#define RUNTIME_VK_INTERNAL_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "runtime/vk/vk.h"

#define VK_FUNCTIONS(X)                                                                            \
  X(DestroyInstance)                                                                               \
  X(EnumeratePhysicalDevices)                                                                      \
  X(GetPhysicalDeviceProperties2) X(GetPhysicalDeviceFeatures2)                                    \
    X(GetPhysicalDeviceMemoryProperties) X(GetPhysicalDeviceQueueFamilyProperties)                 \
      X(EnumerateDeviceExtensionProperties) X(CreateDevice) X(DestroyDevice) X(GetDeviceQueue)     \
        X(DeviceWaitIdle) X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements)          \
          X(GetBufferDeviceAddress) X(AllocateMemory) X(FreeMemory) X(BindBufferMemory)            \
            X(MapMemory) X(CreateShaderModule) X(DestroyShaderModule) X(CreatePipelineLayout)      \
              X(DestroyPipelineLayout) X(CreateComputePipelines) X(DestroyPipeline)                \
                X(CreatePipelineCache) X(DestroyPipelineCache) X(GetPipelineCacheData)             \
                  X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers)             \
                    X(FreeCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer)                \
                      X(CmdPipelineBarrier) X(CmdCopyBuffer) X(CmdFillBuffer) X(CmdBindPipeline)   \
                        X(CmdPushConstants) X(CmdDispatch) X(CreateSemaphore) X(DestroySemaphore)  \
                          X(GetSemaphoreCounterValue) X(WaitSemaphores) X(QueueSubmit)

struct VkFunctions {
#define X(name) PFN_vk##name name;
  VK_FUNCTIONS(X)
#undef X
};
extern struct VkFunctions vk;

struct Device {
  VkInstance instance;
  VkPhysicalDevice physical;
  VkDevice device;
  VkQueue queue;
  uint32_t family;
  VkPhysicalDeviceMemoryProperties memory;
  VkPhysicalDeviceLimits limit;
  uint8_t uuid[VK_UUID_SIZE]; /* of the pipeline cache's format */
  uint32_t driver_version;
  bool int64, int16, float64, memory_model; /* features that kernels may use */
  uint32_t subgroup_operations;             /* VkSubgroupFeatureFlags in compute */
  uint32_t min_subgroup, max_subgroup;      /* that a kernel may ask for; both 0 where it cannot */
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

/* Where one run's inputs and outputs wait on the host, and the copies to and from their places. */
typedef struct IoSlot {
  VkBlock block; /* inputs in order, then outputs, each at a multiple of IO_ALIGN */
  VkCommandBuffer copy_in, copy_out;
} IoSlot;
enum { IO_ALIGN = 16 };

typedef struct Recorded { /* a program, once it was run */
  bool ready;
  Piece *piece;
  int n_piece;
  IoSlot io[EXEC_RING];
} Recorded;

typedef struct Run { /* under way, or free where ticket is 0 */
  uint64_t ticket;
  uint64_t before; /* the semaphore's value when it was submitted */
  uint32_t program;
} Run;

struct Exec {
  Device *dev;
  const Image *image;
  ExecOptions option;
  Arena *arena;
  VkCommandPool pool;
  VkSemaphore semaphore; /* counts command buffers done */
  uint64_t submitted;
  VkPipelineLayout layout;
  VkPipelineCache cache;
  bool lost;
  VkBlock *chunk;       /* buffer is NULL until the chunk is needed */
  uint64_t chunk_bytes; /* of all that exist */
  VkPipeline *pipeline; /* by module; NULL until needed */
  Recorded *program;
  VkBlock staging;
  uint64_t last_ticket;
  Run run[EXEC_RING];
};

/* ---- device.c ---- */
const char *vk_result_name(VkResult);

/* ---- memory.c ---- */
typedef enum MemoryUse { MEMORY_device, MEMORY_host } MemoryUse;
VkResult block_new(Device *, MemoryUse, uint64_t bytes, VkBlock *out);
void block_free(Device *, VkBlock *);
/* Makes it exist, with its tables; parameters and states zero. */
bool chunk_need(Exec *, uint32_t chunk, Buf *why);
void barrier_full(VkCommandBuffer);    /* what kernels and copies did before all that comes */
void barrier_to_host(VkCommandBuffer); /* copies before host reads */
bool buffer_begin(Exec *, VkCommandBuffer *, Buf *why); /* allocated, and recording */
bool buffer_end(Exec *, VkCommandBuffer, Buf *why);

/* ---- pipeline.c ---- */
bool pipelines_open(Exec *,
                    Buf *why); /* layout and cache; checks what the modules ask of the device */
bool pipelines_need(Exec *, const ImgProgram *, Buf *why);
void pipelines_close(Exec *);

/* ---- record.c ---- */
bool record_program(Exec *, uint32_t program, Buf *why);
bool record_io(Exec *, uint32_t program, int slot, Buf *why);
void record_free(Exec *, uint32_t program);
uint64_t io_aligned(uint64_t bytes);         /* up to a multiple of IO_ALIGN */
uint64_t io_input_bytes(const ImgProgram *); /* where outputs start in an IoSlot's block */

/* ---- submit.c ---- */
bool submit_buffer(Exec *, VkCommandBuffer, Buf *why); /* counts e->submitted up */
bool wait_for(Exec *, uint64_t value, Buf *why);
/* Appends what a call that failed means for the user; false. */
bool exec_fault(Exec *, VkResult, const char *doing, Buf *why);

#endif
