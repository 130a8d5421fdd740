/* Answers requests by the signatures of a SavedModel, through TensorFlow's C API:
 *
 *     client MODEL REQUESTS ANSWERS [--library SO] [--bench CALLS]
 *
 * tests/clients/exchange.py says what the two files hold. `--library` registers operations that the model needs, ScaNN's.
 * `--bench` measures each request: the median of so many calls, in milliseconds. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

enum { MOST_TENSORS = 16, MOST_DIMENSIONS = 4, WARM_UP = 50 };

static void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  exit(1);
}

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) != TF_OK) fail("%s: %s", what, TF_Message(status));
}

/* ---- The names of a signature's tensors, from the MetaGraphDef that the model was loaded with ----
 *
 * They are numbered at export. A protobuf message is a row of fields; of those needed here each holds bytes:
 * MetaGraphDef.signature_def = 5, SignatureDef.inputs = 1 and .outputs = 2, TensorInfo.name = 1. An entry of a map has
 * its key in field 1 and its value in field 2. */

typedef struct {
  const uint8_t* at;
  const uint8_t* end;
} Bytes;

static uint64_t next_varint(Bytes* message) {
  uint64_t value = 0;
  for (int shift = 0; message->at < message->end; shift += 7) {
    uint8_t byte = *message->at++;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) break;
  }
  return value;
}

/* Moves to the next field numbered `wanted` and puts its bytes into `value`; returns 0 at the end. */
static int next_field(Bytes* message, uint64_t wanted, Bytes* value) {
  while (message->at < message->end) {
    uint64_t key = next_varint(message);
    if ((key & 7) == 0) {
      next_varint(message);
    } else {
      uint64_t size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : next_varint(message);
      if (size > (uint64_t)(message->end - message->at)) fail("the MetaGraphDef is cut off");
      value->at = message->at;
      value->end = message->at += size;
      if ((key & 7) == 2 && key >> 3 == wanted) return 1;
    }
  }
  return 0;
}

static Bytes only_field(Bytes message, uint64_t wanted) {
  Bytes value = {message.end, message.end};
  next_field(&message, wanted, &value);
  return value;
}

/* The value of a map's entry: the map is field `wanted` of a message. */
static Bytes map_value(Bytes message, uint64_t wanted, const char* key) {
  Bytes entry, name;
  while (next_field(&message, wanted, &entry)) {
    name = only_field(entry, 1);
    if ((size_t)(name.end - name.at) == strlen(key) && !memcmp(name.at, key, strlen(key))) return only_field(entry, 2);
  }
  return (Bytes){NULL, NULL};
}

static TF_Output tensor_of(TF_Graph* graph, Bytes tensor_info) {
  Bytes bytes = only_field(tensor_info, 1);
  char* name = strndup((const char*)bytes.at, bytes.end - bytes.at);
  char* colon = strrchr(name, ':');
  if (!colon) fail("%s is no name of a tensor", name);
  *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (!output.oper) fail("there is no operation %s", name);
  free(name);
  return output;
}

/* ---- Tensors as lines of text: name, dtype, shape, values ---- */

static TF_DataType dtype_of(const char* name) {
  if (!strcmp(name, "string")) return TF_STRING;
  if (!strcmp(name, "int32")) return TF_INT32;
  if (!strcmp(name, "float32")) return TF_FLOAT;
  if (!strcmp(name, "bool")) return TF_BOOL;
  fail("there is no dtype %s here", name);
  return 0;
}

static void set_string(TF_TString* string, const char* hex) {
  size_t size = strlen(hex) / 2;
  char* bytes = malloc(size + 1);
  for (size_t i = 0; i < size; i++) sscanf(hex + 2 * i, "%2hhx", (unsigned char*)&bytes[i]);
  TF_TString_Init(string);
  TF_TString_Copy(string, bytes, size);
  free(bytes);
}

static TF_Tensor* read_tensor(const char* dtype_name, char* shape, char* values) {
  TF_DataType dtype = dtype_of(dtype_name);
  int64_t dims[MOST_DIMENSIONS], count = 1;
  int rank = 0;
  for (char* size = *shape ? strsep(&shape, ",") : NULL; size; size = strsep(&shape, ",")) {
    dims[rank] = atoll(size);
    count *= dims[rank++];
  }
  size_t width = dtype == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(dtype);
  TF_Tensor* tensor = TF_AllocateTensor(dtype, dims, rank, count * width);
  void* data = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; i++) {
    const char* value = strsep(&values, ",");
    if (dtype == TF_STRING) set_string((TF_TString*)data + i, value);
    if (dtype == TF_INT32) ((int32_t*)data)[i] = atoi(value);
    if (dtype == TF_BOOL) ((unsigned char*)data)[i] = *value == '1';
    if (dtype == TF_FLOAT) ((uint32_t*)data)[i] = strtoul(value, NULL, 16);
  }
  return tensor;
}

static void write_tensor(FILE* out, Bytes name, TF_Tensor* tensor) {
  TF_DataType dtype = TF_TensorType(tensor);
  const char* names[] = {[TF_STRING] = "string", [TF_INT32] = "int32", [TF_FLOAT] = "float32", [TF_BOOL] = "bool"};
  fprintf(out, "%.*s\t%s\t", (int)(name.end - name.at), (const char*)name.at, names[dtype]);
  for (int i = 0; i < TF_NumDims(tensor); i++) fprintf(out, i ? ",%ld" : "%ld", (long)TF_Dim(tensor, i));
  fputc('\t', out);
  const void* data = TF_TensorData(tensor);
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
    if (i) fputc(',', out);
    if (dtype == TF_INT32) fprintf(out, "%d", ((const int32_t*)data)[i]);
    if (dtype == TF_BOOL) fprintf(out, "%d", ((const unsigned char*)data)[i]);
    if (dtype == TF_FLOAT) fprintf(out, "%08x", ((const uint32_t*)data)[i]);
    if (dtype == TF_STRING) {
      const TF_TString* string = (const TF_TString*)data + i;
      const char* bytes = TF_TString_GetDataPointer(string);
      for (size_t j = 0; j < TF_TString_GetSize(string); j++) fprintf(out, "%02x", (unsigned char)bytes[j]);
    }
  }
  fputc('\n', out);
}

/* ---- Calls ---- */

typedef struct {
  TF_Session* session;
  TF_Output inputs[MOST_TENSORS], outputs[MOST_TENSORS];
  TF_Tensor* values[MOST_TENSORS];
  Bytes output_names[MOST_TENSORS];
  int num_inputs, num_outputs;
} Call;

static void run(const Call* call, TF_Tensor** results, TF_Status* status) {
  TF_SessionRun(call->session, NULL, call->inputs, call->values, call->num_inputs, call->outputs, results,
                call->num_outputs, NULL, 0, NULL, status);
}

static int by_size(const void* one, const void* other) {
  double difference = *(const double*)one - *(const double*)other;
  return (difference > 0) - (difference < 0);
}

static double median_ms(const Call* call, int times, TF_Status* status) {
  double* ms = malloc(times * sizeof(double));
  for (int i = -WARM_UP; i < times; i++) {
    TF_Tensor* results[MOST_TENSORS] = {0};
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    run(call, results, status);
    clock_gettime(CLOCK_MONOTONIC, &end);
    check(status, "a call that is measured");
    for (int j = 0; j < call->num_outputs; j++) TF_DeleteTensor(results[j]);
    if (i >= 0) ms[i] = (end.tv_sec - start.tv_sec) * 1e3 + (end.tv_nsec - start.tv_nsec) / 1e6;
  }
  qsort(ms, times, sizeof(double), by_size);
  double median = ms[times / 2];
  free(ms);
  return median;
}

static void answer(const Call* call, FILE* out, int bench) {
  TF_Status* status = TF_NewStatus();
  TF_Tensor* results[MOST_TENSORS] = {0};
  run(call, results, status);
  if (TF_GetCode(status) != TF_OK) {
    fprintf(out, "error\t");
    for (const char* letter = TF_Message(status); *letter; letter++) fprintf(out, "%02x", (unsigned char)*letter);
    fputs("\n\n", out);
  } else {
    fprintf(out, "answer\t");
    if (bench) fprintf(out, "%.4f", median_ms(call, bench, status));
    fputc('\n', out);
    for (int i = 0; i < call->num_outputs; i++) {
      write_tensor(out, call->output_names[i], results[i]);
      TF_DeleteTensor(results[i]);
    }
    fputc('\n', out);
  }
  TF_DeleteStatus(status);
}

int main(int argc, char** argv) {
  if (argc < 4) fail("usage: client MODEL REQUESTS ANSWERS [--library SO] [--bench CALLS]");
  TF_Status* status = TF_NewStatus();
  int bench = 0;
  for (int i = 4; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--bench")) bench = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--library")) {
      TF_LoadLibrary(argv[i + 1], status);
      check(status, argv[i + 1]);
    }
  }
  TF_Graph* graph = TF_NewGraph();
  TF_Buffer* buffer = TF_NewBuffer();
  const char* tags[] = {"serve"};
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, buffer, status);
  check(status, argv[1]);
  const Bytes meta_graph = {buffer->data, (const uint8_t*)buffer->data + buffer->length};

  FILE* in = fopen(argv[2], "r");
  FILE* out = fopen(argv[3], "w");
  if (!in || !out) fail("%s or %s can't be opened", argv[2], argv[3]);
  Call call = {.session = session};
  Bytes signature = {0}, entry;
  char* line = NULL;
  size_t room = 0;
  while (getline(&line, &room, in) > 0) {
    line[strcspn(line, "\n")] = 0;
    char* rest = line;
    const char* first = strsep(&rest, "\t");
    if (!strcmp(first, "request")) {
      signature = map_value(meta_graph, 5, rest);
      if (!signature.at) fail("there is no signature %s", rest);
      call.num_inputs = call.num_outputs = 0;
    } else if (*first) {
      const char* dtype = strsep(&rest, "\t");
      char* shape = strsep(&rest, "\t");
      Bytes input = map_value(signature, 1, first);
      if (!input.at) fail("there is no input %s", first);
      call.inputs[call.num_inputs] = tensor_of(graph, input);
      call.values[call.num_inputs++] = read_tensor(dtype, shape, rest);
    } else {
      Bytes outputs = signature;
      while (next_field(&outputs, 2, &entry)) {
        call.output_names[call.num_outputs] = only_field(entry, 1);
        call.outputs[call.num_outputs++] = tensor_of(graph, only_field(entry, 2));
      }
      answer(&call, out, bench);
      for (int i = 0; i < call.num_inputs; i++) TF_DeleteTensor(call.values[i]);
    }
  }
  free(line);
  fclose(in);
  fclose(out);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteBuffer(buffer);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
