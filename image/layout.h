/* Where each field of an image's records lies: writer and reader share it. docs/formats.md explains
 * it. Little-endian. */
#ifndef IMAGE_LAYOUT_H
#define IMAGE_LAYOUT_H

#define IMAGE_MAGIC "alphaimg"

/* The header; what the hash covers begins at HEAD_hashed. Then SECTION_COUNT pairs {offset u64,
 * count u64}. */
enum {
  HEAD_magic = 0,
  HEAD_version = 8,
  HEAD_zero = 12,
  HEAD_length = 16,
  HEAD_hash = 24,
  HEAD_hashed = 32
};

typedef enum Section {
  SEC_text,   /* NUL-terminated strings; other records refer to them by offset in this section */
  SEC_model,  /* one record */
  SEC_target, /* what follows belongs to the first target, then to the second … */
  SEC_chunk,
  SEC_param,
  SEC_state,
  SEC_table,
  SEC_module,
  SEC_program,
  SEC_tensor,   /* inputs, then outputs, of a target's first program; then of its second … */
  SEC_dispatch, /* of a target's first program; then of its second … */
  SEC_arguments,
  SEC_slot, /* of a target's first dispatch; then of its second …; then of its first argument table … */
  SEC_data, /* SPIR-V words and tables, each aligned to IMG_ALIGN bytes */
  SECTION_COUNT
} Section;

enum { HEAD_sections = HEAD_hashed, HEAD_bytes = HEAD_sections + 16 * SECTION_COUNT };

/* Bytes of one record of each section. */
enum {
  MODEL_bytes = 16,
  TARGET_bytes = 64,
  CHUNK_bytes = 16,
  TENSOR_bytes = 96,
  PARAM_bytes = TENSOR_bytes + 16,
  STATE_bytes = TENSOR_bytes + 8,
  TABLE_bytes = TENSOR_bytes + 8,
  MODULE_bytes = 32,
  PROGRAM_bytes = 32,
  DISPATCH_bytes = 48,
  ARGUMENTS_bytes = 8,
  SLOT_bytes = 16
};

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words and tables of an image are used where they lie, in little-endian order"
#endif

#endif
