/* Memory: one buffer with an allocation of its own per chunk of the image, made when first needed;
 * host-visible buffers for copies; whole tensors between host and device through a staging
 * buffer. */
#include "runtime/vk/internal.h"

#include <stdlib.h>
#include <string.h>

enum { STAGING_BYTES = 8 << 20 };

static const char *const class_name[] = {"parameters", "optimizer and other state", "tables",
                                         "inputs and outputs", "intermediate values"};

/* ---- blocks ---- */

/* The first memory type among `allowed` that has `must` and as many of the wishes, in order, as can
 * be had. */
static int memory_type(const Device *d, uint32_t allowed, VkMemoryPropertyFlags must,
                       VkMemoryPropertyFlags wish, VkMemoryPropertyFlags avoid) {
  const struct {
    VkMemoryPropertyFlags has, lacks;
  } attempt[] = {{must | wish, avoid}, {must | wish, 0}, {must, 0}};
  for (int k = 0; k < COUNT_OF(attempt); k++)
    for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++) {
      VkMemoryPropertyFlags f = d->memory.memoryTypes[i].propertyFlags;
      if ((allowed >> i & 1) && (f & attempt[k].has) == attempt[k].has && !(f & attempt[k].lacks))
        return (int)i;
    }
  return -1;
}

static int type_for(const Device *d, MemoryUse use, uint32_t allowed) {
  if (use == MEMORY_device)
    return memory_type(d, allowed, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                       VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
  return memory_type(d, allowed,
                     VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                     VK_MEMORY_PROPERTY_HOST_CACHED_BIT, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
}

static VkResult block_fill(Device *d, MemoryUse use, VkBlock *b) {
  bool device = use == MEMORY_device;
  VkBufferUsageFlags usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  if (device)
    usage |= VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;
  VkBufferCreateInfo info = {
    .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = b->bytes, .usage = usage};
  VkResult r = vk.CreateBuffer(d->device, &info, NULL, &b->buffer);
  if (r) return r;
  VkMemoryRequirements need;
  vk.GetBufferMemoryRequirements(d->device, b->buffer, &need);
  int type = type_for(d, use, need.memoryTypeBits);
  if (type < 0) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                     .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
  VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = device ? &flags : NULL,
                                 .allocationSize = need.size,
                                 .memoryTypeIndex = (uint32_t)type};
  r = vk.AllocateMemory(d->device, &memory, NULL, &b->memory);
  if (!r) r = vk.BindBufferMemory(d->device, b->buffer, b->memory, 0);
  if (!r && !device) r = vk.MapMemory(d->device, b->memory, 0, VK_WHOLE_SIZE, 0, &b->host);
  if (r || !device) return r;
  VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                       .buffer = b->buffer};
  b->address = vk.GetBufferDeviceAddress(d->device, &address);
  return VK_SUCCESS;
}

VkResult block_new(Device *d, MemoryUse use, uint64_t bytes, VkBlock *out) {
  *out = (VkBlock){.bytes = bytes};
  VkResult r = block_fill(d, use, out);
  if (r) block_free(d, out);
  return r;
}

void block_free(Device *d, VkBlock *b) {
  vk.DestroyBuffer(d->device, b->buffer, NULL);
  vk.FreeMemory(d->device, b->memory, NULL);
  *b = (VkBlock){0};
}

/* ---- command buffers ---- */

bool buffer_begin(Exec *e, VkCommandBuffer *out, Buf *why) {
  VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                      .commandPool = e->pool,
                                      .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                      .commandBufferCount = 1};
  VkResult r = vk.AllocateCommandBuffers(e->dev->device, &info, out);
  if (r) {
    *out = NULL;
    return exec_fault(e, r, "making a command buffer", why);
  }
  VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                    .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
  r = vk.BeginCommandBuffer(*out, &begin);
  return r ? exec_fault(e, r, "recording", why) : true;
}

bool buffer_end(Exec *e, VkCommandBuffer c, Buf *why) {
  VkResult r = vk.EndCommandBuffer(c);
  return r ? exec_fault(e, r, "recording", why) : true;
}

void barrier_full(VkCommandBuffer c) {
  const VkPipelineStageFlags stages =
    VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
  VkMemoryBarrier memory = {
    .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
    .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
    .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                     VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
  vk.CmdPipelineBarrier(c, stages, stages, 0, 1, &memory, 0, NULL, 0, NULL);
}

void barrier_to_host(VkCommandBuffer c) {
  VkMemoryBarrier memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                            .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                            .dstAccessMask =
                              VK_ACCESS_HOST_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
  vk.CmdPipelineBarrier(c, VK_PIPELINE_STAGE_TRANSFER_BIT,
                        VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &memory,
                        0, NULL, 0, NULL);
}

/* ---- staging ---- */

typedef struct Copy { /* one piece through the staging buffer */
  VkBuffer device;
  uint64_t at, bytes;
  bool to_device;
} Copy;

static bool staging_ready(Exec *e, Buf *why) {
  if (e->staging.buffer) return true;
  VkResult r = block_new(e->dev, MEMORY_host, STAGING_BYTES, &e->staging);
  return r ? exec_fault(e, r, "making a buffer for copies", why) : true;
}

/* Submits what is recorded behind everything else, waits for it and frees it. */
static bool run_once(Exec *e, VkCommandBuffer c, Buf *why) {
  bool ok = buffer_end(e, c, why) && submit_buffer(e, c, why) && wait_for(e, e->submitted, why);
  if (!e->lost) vk.FreeCommandBuffers(e->dev->device, e->pool, 1, &c);
  return ok;
}

static bool copy_now(Exec *e, const Copy *copy, Buf *why) {
  VkCommandBuffer c;
  if (!buffer_begin(e, &c, why)) return false;
  VkBufferCopy region = {.srcOffset = copy->to_device ? 0 : copy->at,
                         .dstOffset = copy->to_device ? copy->at : 0,
                         .size = copy->bytes};
  barrier_full(c);
  if (copy->to_device)
    vk.CmdCopyBuffer(c, e->staging.buffer, copy->device, 1, &region);
  else
    vk.CmdCopyBuffer(c, copy->device, e->staging.buffer, 1, &region);
  if (copy->to_device)
    barrier_full(c);
  else
    barrier_to_host(c);
  return run_once(e, c, why);
}

/* Bytes at … of a block that exists, from the host as they are. */
static bool upload(Exec *e, const VkBlock *block, uint64_t at, uint64_t bytes, const void *from,
                   Buf *why) {
  if (!staging_ready(e, why)) return false;
  for (uint64_t done = 0; done < bytes;) {
    uint64_t n = bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
    Copy copy = {block->buffer, at + done, n, true};
    memcpy(e->staging.host, (const char *)from + done, n);
    if (!copy_now(e, &copy, why)) return false;
    done += n;
  }
  return true;
}

void elements_to_device(const ImgTensor *t, const void *from, uint64_t n, void *to) {
  if (image_is_half(t))
    half_pack(t->dtype == IMG_bf16, from, n, to);
  else
    memcpy(to, from, 4 * n);
}

void elements_to_host(const ImgTensor *t, const void *from, uint64_t n, void *to) {
  if (image_is_half(t))
    half_unpack(t->dtype == IMG_bf16, from, n, to);
  else
    memcpy(to, from, 4 * n);
}

/* A tensor from or to the host's form, in pieces. */
static bool transfer(Exec *e, const ImgTensor *t, const char *from, char *to, Buf *why) {
  if (!chunk_need(e, t->chunk, why) || !staging_ready(e, why)) return false;
  const VkBlock *block = &e->chunk[t->chunk];
  uint64_t size = image_is_half(t) ? 2 : 4, count = image_elements(t);
  for (uint64_t done = 0; done < count;) {
    uint64_t n = count - done < STAGING_BYTES / size ? count - done : STAGING_BYTES / size;
    Copy copy = {block->buffer, t->offset + size * done, size * n, from != NULL};
    if (from) elements_to_device(t, from + 4 * done, n, e->staging.host);
    if (!copy_now(e, &copy, why)) return false;
    if (to) elements_to_host(t, e->staging.host, n, to + 4 * done);
    done += n;
  }
  return true;
}

/* ---- chunks ---- */

static void sizes_by_class(Exec *e, Buf *why) {
  uint64_t total[IMG_SCRATCH + 1] = {0};
  for (uint32_t i = 0; i < e->image->n_chunk; i++)
    total[e->image->chunk[i].cls] += e->image->chunk[i].bytes;
  buf_str(why, "; the model's memory in MiB:");
  const char *sep = " ";
  for (int k = 0; k <= IMG_SCRATCH; k++) {
    if (!total[k]) continue;
    buf_printf(why, "%s%s %.1f", sep, class_name[k], (double)total[k] / (1 << 20));
    sep = ", ";
  }
}

static bool no_room(Exec *e, const ImgChunk *c, const char *reason, Buf *why) {
  const DeviceInfo *info = &e->dev->info;
  buf_printf(why,
             "%.1f MiB for %s could not be had on %s: %s (it has %.0f MiB, at most %.0f MiB in one "
             "piece; %.1f MiB are in use by this model)",
             (double)c->bytes / (1 << 20), class_name[c->cls], info->name, reason,
             (double)info->memory_bytes / (1 << 20), (double)info->max_allocation / (1 << 20),
             (double)e->chunk_bytes / (1 << 20));
  sizes_by_class(e, why);
  return false;
}

static bool zero_chunk(Exec *e, const VkBlock *b, Buf *why) {
  VkCommandBuffer c;
  if (!buffer_begin(e, &c, why)) return false;
  vk.CmdFillBuffer(c, b->buffer, 0, VK_WHOLE_SIZE, 0);
  barrier_full(c);
  return run_once(e, c, why);
}

static bool load_tables(Exec *e, uint32_t chunk, Buf *why) {
  const Image *m = e->image;
  for (uint32_t i = 0; i < m->n_table; i++) {
    const ImgTensor *t = &m->table[i].t;
    if (t->chunk == chunk &&
        !upload(e, &e->chunk[chunk], t->offset, t->bytes, m->table[i].data, why))
      return false;
  }
  return true;
}

/* As much of the chunk as the programs need that were announced; all of it where none was. */
static uint64_t chunk_bytes(const Exec *e, uint32_t chunk) {
  const Image *m = e->image;
  uint64_t most = 0;
  for (uint32_t i = 0; i < m->n_program; i++) {
    uint64_t bytes = e->program[i].expected ? image_extent(m, &m->program[i], chunk) : 0;
    if (bytes > most) most = bytes;
  }
  return most ? most : m->chunk[chunk].bytes;
}

bool chunk_need(Exec *e, uint32_t i, Buf *why) {
  VkBlock *b = &e->chunk[i];
  if (b->buffer) return true;
  const ImgChunk *c = &(ImgChunk){e->image->chunk[i].cls, chunk_bytes(e, i)};
  const DeviceInfo *info = &e->dev->info;
  if (c->bytes > info->max_allocation) return no_room(e, c, "too large for one allocation", why);
  if (c->bytes > info->memory_bytes || e->chunk_bytes > info->memory_bytes - c->bytes)
    return no_room(e, c, "more than the device has", why);
  VkResult r = block_new(e->dev, MEMORY_device, c->bytes, b);
  if (r) return no_room(e, c, vk_result_name(r), why);
  e->chunk_bytes += c->bytes;
  switch (c->cls) {
  case IMG_PARAM:
  case IMG_STATE: return zero_chunk(e, b, why);
  case IMG_TABLE: return load_tables(e, i, why);
  default: return true;
  }
}

/* ---- argument tables ---- */

uint64_t exec_slot(const Exec *e, const ImgSlot *s) {
  switch (s->kind) {
  case IMG_ADDRESS: return e->chunk[s->chunk].address + s->value;
  case IMG_ARGUMENTS: return e->arguments[s->value].address;
  default: return s->value;
  }
}

bool arguments_need(Exec *e, uint32_t table, Buf *why) {
  VkBlock *b = &e->arguments[table];
  if (b->buffer) return true;
  const ImgArguments *a = &e->image->arguments[table];
  uint64_t bytes = sizeof(uint64_t) * (uint64_t)a->n_slot;
  VkResult r = block_new(e->dev, MEMORY_device, bytes, b);
  if (r) return exec_fault(e, r, "making an argument table", why);
  uint64_t *value = xmalloc(bytes);
  for (uint32_t i = 0; i < a->n_slot; i++) value[i] = exec_slot(e, &a->slot[i]);
  bool ok = upload(e, b, 0, bytes, value, why);
  free(value);
  if (!ok) block_free(e->dev, b);
  return ok;
}

bool exec_write(Exec *e, const ImgTensor *t, const void *from, Buf *why) {
  return transfer(e, t, from, NULL, why);
}

bool exec_read(Exec *e, const ImgTensor *t, void *to, Buf *why) {
  return transfer(e, t, NULL, to, why);
}

/* From what is there already, twice as much each time. */
bool exec_repeat(Exec *e, const ImgTensor *t, const uint32_t *word, uint64_t n, Buf *why) {
  if (!chunk_need(e, t->chunk, why)) return false;
  const VkBlock *b = &e->chunk[t->chunk];
  uint64_t first = 4 * n < t->bytes ? 4 * n : t->bytes;
  VkCommandBuffer c;
  if (n > 1 && !upload(e, b, t->offset, first, word, why)) return false;
  if (!buffer_begin(e, &c, why)) return false;
  barrier_full(c);
  if (n == 1) vk.CmdFillBuffer(c, b->buffer, t->offset, t->bytes, *word);
  for (uint64_t done = first, more; n > 1 && done < t->bytes; done += more) {
    more = t->bytes - done < done ? t->bytes - done : done;
    VkBufferCopy region = {.srcOffset = t->offset, .dstOffset = t->offset + done, .size = more};
    vk.CmdCopyBuffer(c, b->buffer, b->buffer, 1, &region);
    barrier_full(c);
  }
  barrier_full(c);
  return run_once(e, c, why);
}
