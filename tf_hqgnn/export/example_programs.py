"""Programs that ask the signature `recommend` in several languages, as the guide of an export shows them.

Each is whole: it takes its address or folder and the ID of a user as arguments, so that no ID has to be written in the
syntax of a language. Needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping

# What a program of C calls tensors by where there is no export to name them.
TYPICAL_NAMES = {
    **{name: f"recommend_{name}:0" for name in ("user_id", "k", "exclude_item_id", "category")},
    "item_id": "StatefulPartitionedCall_5:0",
}

_PYTHON = """import sys

import tensorflow as tf

# For a model that searches with ScaNN, `import scann` before it is loaded.
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["recommend"](
    user_id=tf.constant([sys.argv[2]]),
    k=tf.constant(5),
    exclude_item_id=tf.constant([[""]]),
    category=tf.constant([""]),
)
print([item_id.decode() for item_id in answer["item_id"].numpy()[0]])
"""

_JAVA = """import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.ndarray.buffer.DataBuffers;
import org.tensorflow.types.TInt32;
import org.tensorflow.types.TString;

public final class Ask {
  public static void main(String[] args) {
    // For a model that searches with ScaNN, before it is loaded: TensorFlow.loadLibrary(".../_scann_ops.so");
    try (SavedModelBundle model = SavedModelBundle.load(args[0], "serve");
        TString user = TString.vectorOf(args[1]);
        TInt32 k = TInt32.scalarOf(5);
        TString exclude = TString.tensorOf(Shape.of(1, 1), DataBuffers.ofObjects(""));
        TString category = TString.vectorOf("");
        Result answer =
            model
                .function("recommend")
                .call(Map.of("user_id", user, "k", k, "exclude_item_id", exclude, "category", category))) {
      ((TString) answer.get("item_id").get()).scalars().forEach(item -> System.out.println(item.getObject()));
    }
  }
}
"""

_C = """#include <stdio.h>
#include <string.h>
#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

/* A tensor of one string, [1] or [1, 1]. */
static TF_Tensor* text(const char* value, int rank) {
  const int64_t dims[] = {1, 1};
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, dims, rank, sizeof(TF_TString));
  TF_TString_Init(TF_TensorData(tensor));
  TF_TString_Copy(TF_TensorData(tensor), value, strlen(value));
  return tensor;
}

static void check(TF_Status* status) {
  if (TF_GetCode(status) != TF_OK) fprintf(stderr, "%s\\n", TF_Message(status));
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const char* tags[] = {"serve"};
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);
  if (!session) return 1;
  /* Names of tensors are numbered at export: these are the ones of this version. */
  const TF_Output inputs[] = {
      {TF_GraphOperationByName(graph, "@user_id@"), @user_id.index@},
      {TF_GraphOperationByName(graph, "@k@"), @k.index@},
      {TF_GraphOperationByName(graph, "@exclude_item_id@"), @exclude_item_id.index@},
      {TF_GraphOperationByName(graph, "@category@"), @category.index@}};
  const TF_Output output = {TF_GraphOperationByName(graph, "@item_id@"), @item_id.index@};
  TF_Tensor* k = TF_AllocateTensor(TF_INT32, NULL, 0, sizeof(int32_t));
  *(int32_t*)TF_TensorData(k) = 5;
  TF_Tensor* values[] = {text(argv[2], 1), k, text("", 2), text("", 1)};
  TF_Tensor* items = NULL;
  TF_SessionRun(session, NULL, inputs, values, 4, &output, &items, 1, NULL, 0, NULL, status);
  check(status);
  if (!items) return 1;
  const TF_TString* ids = TF_TensorData(items);
  for (int i = 0; i < TF_Dim(items, 1); i++)
    printf("%.*s\\n", (int)TF_TString_GetSize(ids + i), TF_TString_GetDataPointer(ids + i));
  return 0;
}
"""

_GO = """package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"tf_hqgnn/client/stubs/tensorflow/core/framework"
	"tf_hqgnn/client/stubs/tensorflow_serving/apis"
)

// One string, of shape [1] or [1, 1].
func text(value string, rank int) *framework.TensorProto {
	shape := &framework.TensorShapeProto{}
	for i := 0; i < rank; i++ {
		shape.Dim = append(shape.Dim, &framework.TensorShapeProto_Dim{Size: 1})
	}
	return &framework.TensorProto{
		Dtype: framework.DataType_DT_STRING, TensorShape: shape, StringVal: [][]byte{[]byte(value)},
	}
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	k := &framework.TensorProto{
		Dtype: framework.DataType_DT_INT32, TensorShape: &framework.TensorShapeProto{}, IntVal: []int32{5},
	}
	answer, err := apis.NewPredictionServiceClient(connection).Predict(context.Background(), &apis.PredictRequest{
		ModelSpec: &apis.ModelSpec{Name: "@model@", SignatureName: "recommend"},
		Inputs: map[string]*framework.TensorProto{
			"user_id": text(os.Args[2], 1), "k": k, "exclude_item_id": text("", 2), "category": text("", 1),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range answer.Outputs["item_id"].StringVal {
		fmt.Println(string(item))
	}
}
"""


def example_programs(model: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return a program for each language, by the language's name in Markdown.

    Args:
      model: the name of the model, for a server.
      names: by input or output of `recommend`, the name of its tensor, as `recommend_k:0`.

    Example:
      >>> sorted(example_programs("hqgnn", TYPICAL_NAMES))
      ['c', 'go', 'java', 'python']
    """
    program_c = _C
    for name, tensor in names.items():
        operation, _, index = tensor.partition(":")
        program_c = program_c.replace(f"@{name}@", operation).replace(f"@{name}.index@", index)
    return {"python": _PYTHON, "java": _JAVA, "c": program_c, "go": _GO.replace("@model@", model)}
