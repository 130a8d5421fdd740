import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusRuntimeException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.tensorflow.framework.DataType;
import org.tensorflow.framework.TensorProto;
import org.tensorflow.framework.TensorShapeProto;
import tensorflow.serving.Model.ModelSpec;
import tensorflow.serving.Predict.PredictRequest;
import tensorflow.serving.Predict.PredictResponse;
import tensorflow.serving.PredictionServiceGrpc;
import tensorflow.serving.PredictionServiceGrpc.PredictionServiceBlockingStub;

/** Asks a server by gRPC, with stubs that protoc makes of TF Serving's protos: HOST:PORT MODEL REQUESTS ANSWERS [--bench CALLS]. */
public final class GrpcClient {
  private GrpcClient() {}

  public static void main(String[] args) throws Exception {
    int bench = args.length > 5 ? Integer.parseInt(args[5]) : 0;
    ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    try (PrintStream out = new PrintStream(args[3], StandardCharsets.UTF_8)) {
      PredictionServiceBlockingStub stub = PredictionServiceGrpc.newBlockingStub(channel);
      for (Exchange.Request request : Exchange.requests(Files.readAllLines(Path.of(args[2])))) {
        out.println(answer(stub, proto(args[1], request), bench));
      }
    } finally {
      channel.shutdownNow();
    }
  }

  private static String answer(PredictionServiceBlockingStub stub, PredictRequest request, int bench) {
    List<String> lines = new ArrayList<>();
    try {
      PredictResponse response = stub.predict(request);
      lines.add("answer\t" + (bench == 0 ? "" : Double.toString(Exchange.medianMs(bench, () -> stub.predict(request)))));
      response.getOutputsMap().forEach((name, tensor) -> lines.add(values(name, tensor).line()));
    } catch (StatusRuntimeException error) {
      lines.add("error\t" + Exchange.text(error.getMessage().getBytes(StandardCharsets.UTF_8)));
    }
    return String.join("\n", lines) + "\n";
  }

  private static PredictRequest proto(String model, Exchange.Request request) {
    PredictRequest.Builder builder =
        PredictRequest.newBuilder()
            .setModelSpec(ModelSpec.newBuilder().setName(model).setSignatureName(request.signature()));
    request.inputs().forEach(values -> builder.putInputs(values.name(), proto(values)));
    return builder.build();
  }

  private static TensorProto proto(Exchange.Values values) {
    TensorShapeProto.Builder shape = TensorShapeProto.newBuilder();
    for (long size : values.shape()) {
      shape.addDimBuilder().setSize(size);
    }
    TensorProto.Builder tensor = TensorProto.newBuilder().setTensorShape(shape);
    switch (values.dtype()) {
      case "string" -> {
        tensor.setDtype(DataType.DT_STRING);
        for (byte[] one : values.bytes()) {
          tensor.addStringVal(ByteString.copyFrom(one));
        }
      }
      case "int32" -> {
        tensor.setDtype(DataType.DT_INT32);
        for (int one : values.ints()) {
          tensor.addIntVal(one);
        }
      }
      case "float32" -> {
        tensor.setDtype(DataType.DT_FLOAT);
        for (float one : values.floats()) {
          tensor.addFloatVal(one);
        }
      }
      case "bool" -> {
        tensor.setDtype(DataType.DT_BOOL);
        for (boolean one : values.booleans()) {
          tensor.addBoolVal(one);
        }
      }
      default -> throw new IllegalArgumentException("there is no dtype " + values.dtype() + " here");
    }
    return tensor.build();
  }

  /** A server may send numbers one by one, or all of them as bytes. */
  private static Exchange.Values values(String name, TensorProto tensor) {
    List<String> texts = new ArrayList<>();
    ByteBuffer content = tensor.getTensorContent().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    String dtype =
        switch (tensor.getDtype()) {
          case DT_STRING -> {
            tensor.getStringValList().forEach(one -> texts.add(Exchange.text(one.toByteArray())));
            yield "string";
          }
          case DT_INT32 -> {
            tensor.getIntValList().forEach(one -> texts.add(Integer.toString(one)));
            while (content.hasRemaining()) {
              texts.add(Integer.toString(content.getInt()));
            }
            yield "int32";
          }
          case DT_FLOAT -> {
            tensor.getFloatValList().forEach(one -> texts.add(Exchange.text(one)));
            while (content.hasRemaining()) {
              texts.add(Exchange.text(content.getFloat()));
            }
            yield "float32";
          }
          case DT_BOOL -> {
            tensor.getBoolValList().forEach(one -> texts.add(Exchange.text(one)));
            while (content.hasRemaining()) {
              texts.add(Exchange.text(content.get() != 0));
            }
            yield "bool";
          }
          default -> throw new IllegalArgumentException("there is no dtype " + tensor.getDtype() + " here");
        };
    long[] shape = tensor.getTensorShape().getDimList().stream().mapToLong(TensorShapeProto.Dim::getSize).toArray();
    return new Exchange.Values(name, dtype, shape, texts);
  }
}
