/* Structured if and for: C nests as the shader does. */
#include "codegen/spirv/internal.h"

uint32_t spv_scope(const Spv *b) { return b->open[b->n_open - 1].serial; }

bool spv_scope_open(const Spv *b, uint32_t serial) {
  for (int i = b->n_open; i-- > 0;)
    if (b->open[i].serial == serial) return true;
  return false;
}

static SpvNest *push(Spv *b, SpvNest s) {
  if (b->n_open == SPV_MAX_SCOPES) die("spirv: control nests deeper than %d", SPV_MAX_SCOPES);
  s.serial = ++b->n_scope;
  b->open[b->n_open] = s;
  return &b->open[b->n_open++];
}

static void label(Spv *b, SpvId id) { spv_effect(b, SpvOpLabel, id); }

void spv_if(Spv *b, SpvId condition) {
  SpvId then = spv_new_id(b), other = spv_new_id(b), merge = spv_new_id(b);
  spv_effect(b, SpvOpSelectionMerge, merge, SpvSelectionControlMaskNone);
  spv_effect(b, SpvOpBranchConditional, condition, then, other);
  label(b, then);
  push(b, (SpvNest){.kind = SCOPE_if, .merge = merge, .other = other});
}

void spv_else(Spv *b) {
  SpvNest *s = &b->open[b->n_open - 1];
  if (s->kind != SCOPE_if || s->has_else) die("spirv: else without if");
  spv_effect(b, SpvOpBranch, s->merge);
  label(b, s->other);
  s->has_else = true;
  s->serial = ++b->n_scope; /* what the first side made is gone */
}

static SpvId loop(Spv *b, SpvId n, SpvLoopControlMask control) {
  SpvId zero = spv_u(b, 0);
  SpvId variable = spv_local(b, spv_type(b, n));
  SpvId header = spv_new_id(b), test = spv_new_id(b), body = spv_new_id(b), next = spv_new_id(b),
        merge = spv_new_id(b);
  spv_set(b, variable, zero);
  spv_effect(b, SpvOpBranch, header);
  label(b, header);
  spv_effect(b, SpvOpLoopMerge, merge, next, control);
  spv_effect(b, SpvOpBranch, test);
  label(b, test);
  push(b,
       (SpvNest){
         .kind = SCOPE_loop, .merge = merge, .other = header, .next = next, .variable = variable});
  SpvId index = spv_get(b, variable);
  b->open[b->n_open - 1].index = index;
  SpvId go = spv_cmp(b, SpvOpULessThan, index, n);
  spv_effect(b, SpvOpBranchConditional, go, body, merge);
  label(b, body);
  return index;
}

SpvId spv_for(Spv *b, SpvId n) { return loop(b, n, SpvLoopControlMaskNone); }

SpvId spv_for_unrolled(Spv *b, SpvId n) { return loop(b, n, SpvLoopControlUnrollMask); }

SpvId spv_for_rolled(Spv *b, SpvId n) { return loop(b, n, SpvLoopControlDontUnrollMask); }

void spv_end(Spv *b) {
  SpvNest s = b->open[b->n_open - 1];
  if (s.kind == SCOPE_function) die("spirv: end without if or for");
  if (s.kind == SCOPE_loop) {
    spv_effect(b, SpvOpBranch, s.next);
    label(b, s.next);
    SpvId one = spv_u(b, 1);
    SpvId more = spv_result(b, SpvOpIAdd, spv_type(b, s.index), s.index, one);
    spv_set(b, s.variable, more);
    spv_effect(b, SpvOpBranch, s.other);
  } else {
    spv_effect(b, SpvOpBranch, s.merge);
    if (!s.has_else) {
      label(b, s.other);
      spv_effect(b, SpvOpBranch, s.merge);
    }
  }
  b->n_open--;
  label(b, s.merge);
}
