/* Validation and disassembly by SPIRV-Tools. */
#include "codegen/plan.h"
#include "codegen/spirv/newer.h"

#include <spirv-tools/libspirv.h>
#include <spirv/unified1/spirv.h>
#include <stdio.h>

static void collect(Buf *out, spv_diagnostic d) {
  if (d) buf_printf(out, "%s (word %zu)", d->error, d->position.index);
  spvDiagnosticDestroy(d);
}

/* The name of a capability that the module needs and the SPIRV-Tools in this program have never heard of; NULL: none. */
static const char *unknown_capability(spv_context context, const uint32_t *word, int n_word) {
  static const struct {
    uint32_t value;
    const char *name;
  } newer[] = {{SPV_CapabilityCooperativeMatrixKHR, "CooperativeMatrixKHR"},
               {SPV_CapabilityBFloat16TypeKHR, "BFloat16TypeKHR"},
               {SPV_CapabilityCooperativeMatrixReductionsNV, "CooperativeMatrixReductionsNV"},
               {SPV_CapabilityCooperativeMatrixConversionsNV, "CooperativeMatrixConversionsNV"}};
  enum { HEADER = 5 };
  for (int i = HEADER; i + 1 < n_word && (word[i] & 0xffff) == SpvOpCapability; i += 2)
    for (int j = 0; j < COUNT_OF(newer); j++) {
      if (word[i + 1] != newer[j].value) continue;
      char text[80];
      int n = snprintf(text, sizeof text, "OpCapability %s", newer[j].name);
      spv_binary binary = NULL;
      spv_result_t r = spvTextToBinary(context, text, (size_t)n, &binary, NULL);
      spvBinaryDestroy(binary);
      if (r != SPV_SUCCESS) return newer[j].name;
    }
  return NULL;
}

bool cg_validate(const uint32_t *word, int n_word, Buf *why) {
  spv_context context = spvContextCreate(SPV_ENV_VULKAN_1_2);
  const char *unknown = unknown_capability(context, word, n_word);
  if (unknown) {
    buf_printf(why, "not validated: this SPIRV-Tools (%s) does not know %s",
               spvSoftwareVersionString(), unknown);
    spvContextDestroy(context);
    return true;
  }
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
