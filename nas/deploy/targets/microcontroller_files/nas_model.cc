// The network in TensorFlow Lite Micro. @HEAD@
#include "nas_model.h"

#include <string.h>

#include "nas_model_data.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

// Forks of TensorFlow Lite Micro have namespaces of their own.
#ifndef NAS_MODEL_TFLM
#define NAS_MODEL_TFLM tflite
#endif

namespace {

namespace tflm = NAS_MODEL_TFLM;

alignas(16) uint8_t arena[NAS_MODEL_ARENA_SIZE];
tflm::MicroInterpreter *interpreter = nullptr;

bool AddOperators(tflm::MicroMutableOpResolver<@NUM_OPERATORS@> &resolver) {
@OPERATORS@
  return true;
}

}  // namespace

int nas_model_setup(void) {
  const tflm::Model *model = tflm::GetModel(nas_model_data);
  if (model->version() != @SCHEMA@) return 1;
  static tflm::MicroMutableOpResolver<@NUM_OPERATORS@> resolver;
  if (!AddOperators(resolver)) return 2;
  static tflm::MicroInterpreter built(model, resolver, arena, sizeof(arena));
  if (built.AllocateTensors() != kTfLiteOk) return 3;
  interpreter = &built;
  return 0;
}

int nas_model_run(const int8_t *image, int8_t *logits) {
  if (interpreter == nullptr) return 4;
  memcpy(interpreter->input(0)->data.int8, image, NAS_MODEL_INPUT_SIZE);
  if (interpreter->Invoke() != kTfLiteOk) return 4;
  memcpy(logits, interpreter->output(0)->data.int8, NAS_MODEL_CLASSES);
  return 0;
}

unsigned long nas_model_arena_used(void) {
  return interpreter == nullptr ? 0 : static_cast<unsigned long>(interpreter->arena_used_bytes());
}
