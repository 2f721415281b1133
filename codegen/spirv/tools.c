/* Validation and disassembly by SPIRV-Tools. */
#include "codegen/plan.h"

#include <spirv-tools/libspirv.h>

static void collect(Buf *out, spv_diagnostic d) {
  if (d) buf_printf(out, "%s (word %zu)", d->error, d->position.index);
  spvDiagnosticDestroy(d);
}

bool cg_validate(const uint32_t *word, int n_word, Buf *why) {
  spv_context context = spvContextCreate(SPV_ENV_VULKAN_1_2);
  spv_diagnostic d = NULL;
  spv_const_binary_t binary = {word, (size_t)n_word};
  spv_validator_options options = spvValidatorOptionsCreate();
  spvValidatorOptionsSetFriendlyNames(options, false); /* they take a third of the time */
  spv_result_t r = spvValidateWithOptions(context, options, &binary, &d);
  spvValidatorOptionsDestroy(options);
  collect(why, d);
  spvContextDestroy(context);
  return r == SPV_SUCCESS;
}

void cg_disassemble(const uint32_t *word, int n_word, Buf *out) {
  spv_context context = spvContextCreate(SPV_ENV_VULKAN_1_2);
  spv_diagnostic d = NULL;
  spv_text text = NULL;
  unsigned options = SPV_BINARY_TO_TEXT_OPTION_INDENT | SPV_BINARY_TO_TEXT_OPTION_NO_HEADER |
                     SPV_BINARY_TO_TEXT_OPTION_FRIENDLY_NAMES;
  if (spvBinaryToText(context, word, (size_t)n_word, options, &text, &d) == SPV_SUCCESS)
    buf_put(out, text->str, text->length);
  spvTextDestroy(text);
  collect(out, d);
  spvContextDestroy(context);
}
