/* The network's .tflite file as an array. @HEAD@ */
#ifndef NAS_MODEL_DATA_H_
#define NAS_MODEL_DATA_H_

#ifdef __cplusplus
extern "C" {
#endif

#define NAS_MODEL_DATA_SIZE @SIZE@u

/* Aligned to 16 bytes, as TensorFlow Lite Micro asks for; constant, so that it stays in flash. */
extern const unsigned char nas_model_data[NAS_MODEL_DATA_SIZE];

#ifdef __cplusplus
}
#endif

#endif /* NAS_MODEL_DATA_H_ */
