// Asks a server by gRPC, with stubs that protoc makes of TF Serving's protos:
//
//	client HOST:PORT MODEL REQUESTS ANSWERS [--bench CALLS]
//
// tests/clients/exchange.py says what the two files hold.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"tf_hqgnn/client/stubs/tensorflow/core/framework"
	"tf_hqgnn/client/stubs/tensorflow_serving/apis"
)

func main() {
	bench := 0
	if len(os.Args) > 6 {
		bench = number(os.Args[6])
	}
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	service := apis.NewPredictionServiceClient(connection)
	in, err := os.Open(os.Args[3])
	check(err)
	out, err := os.Create(os.Args[4])
	check(err)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	var request *apis.PredictRequest
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if fields[0] == "request" {
			request = &apis.PredictRequest{
				ModelSpec: &apis.ModelSpec{Name: os.Args[2], SignatureName: fields[1]},
				Inputs:    map[string]*framework.TensorProto{},
			}
		} else if fields[0] != "" {
			request.Inputs[fields[0]] = tensor(fields[1], fields[2], fields[3])
		} else {
			_, err := fmt.Fprintln(out, answer(service, request, bench))
			check(err)
		}
	}
	check(lines.Err())
	check(out.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func answer(service apis.PredictionServiceClient, request *apis.PredictRequest, bench int) string {
	response, err := service.Predict(context.Background(), request)
	if err != nil {
		return "error\t" + hex.EncodeToString([]byte(err.Error())) + "\n"
	}
	lines := []string{"answer\t"}
	if bench > 0 {
		lines[0] += strconv.FormatFloat(medianMs(service, request, bench), 'f', 4, 64)
	}
	for name, value := range response.Outputs {
		lines = append(lines, name+"\t"+text(value))
	}
	return strings.Join(lines, "\n") + "\n"
}

func medianMs(service apis.PredictionServiceClient, request *apis.PredictRequest, calls int) float64 {
	var ms []float64
	for i := -50; i < calls; i++ {
		start := time.Now()
		_, err := service.Predict(context.Background(), request)
		check(err)
		if i >= 0 {
			ms = append(ms, float64(time.Since(start).Nanoseconds())/1e6)
		}
	}
	sort.Float64s(ms)
	return ms[calls/2]
}

func tensor(dtype, shape, values string) *framework.TensorProto {
	result := &framework.TensorProto{TensorShape: &framework.TensorShapeProto{}}
	count := 1
	if shape != "" {
		for _, size := range strings.Split(shape, ",") {
			result.TensorShape.Dim = append(result.TensorShape.Dim, &framework.TensorShapeProto_Dim{Size: int64(number(size))})
			count *= number(size)
		}
	}
	texts := strings.Split(values, ",")
	if count == 0 {
		texts = nil
	}
	for _, one := range texts {
		switch dtype {
		case "string":
			bytes, err := hex.DecodeString(one)
			check(err)
			result.StringVal = append(result.StringVal, bytes)
		case "int32":
			result.IntVal = append(result.IntVal, int32(number(one)))
		case "bool":
			result.BoolVal = append(result.BoolVal, one == "1")
		case "float32":
			bits, err := strconv.ParseUint(one, 16, 32)
			check(err)
			result.FloatVal = append(result.FloatVal, math.Float32frombits(uint32(bits)))
		}
	}
	result.Dtype = map[string]framework.DataType{
		"string": framework.DataType_DT_STRING, "int32": framework.DataType_DT_INT32,
		"bool": framework.DataType_DT_BOOL, "float32": framework.DataType_DT_FLOAT,
	}[dtype]
	return result
}

// text is the dtype, the shape and the values. A server may send numbers one by one, or all of them as bytes.
func text(tensor *framework.TensorProto) string {
	var sizes, texts []string
	for _, dim := range tensor.TensorShape.Dim {
		sizes = append(sizes, strconv.FormatInt(dim.Size, 10))
	}
	content := tensor.TensorContent
	var dtype string
	switch tensor.Dtype {
	case framework.DataType_DT_STRING:
		dtype = "string"
		for _, one := range tensor.StringVal {
			texts = append(texts, hex.EncodeToString(one))
		}
	case framework.DataType_DT_INT32:
		dtype = "int32"
		for ; len(content) > 0; content = content[4:] {
			tensor.IntVal = append(tensor.IntVal, int32(binary.LittleEndian.Uint32(content)))
		}
		for _, one := range tensor.IntVal {
			texts = append(texts, strconv.Itoa(int(one)))
		}
	case framework.DataType_DT_FLOAT:
		dtype = "float32"
		for ; len(content) > 0; content = content[4:] {
			tensor.FloatVal = append(tensor.FloatVal, math.Float32frombits(binary.LittleEndian.Uint32(content)))
		}
		for _, one := range tensor.FloatVal {
			texts = append(texts, fmt.Sprintf("%08x", math.Float32bits(one)))
		}
	case framework.DataType_DT_BOOL:
		dtype = "bool"
		for _, one := range content {
			tensor.BoolVal = append(tensor.BoolVal, one != 0)
		}
		for _, one := range tensor.BoolVal {
			texts = append(texts, map[bool]string{true: "1", false: "0"}[one])
		}
	}
	return strings.Join([]string{dtype, strings.Join(sizes, ","), strings.Join(texts, ",")}, "\t")
}
