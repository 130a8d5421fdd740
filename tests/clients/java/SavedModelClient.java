import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.SessionFunction;
import org.tensorflow.Tensor;
import org.tensorflow.TensorFlow;
import org.tensorflow.ndarray.NdArrays;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.ndarray.buffer.DataBuffers;
import org.tensorflow.types.TBool;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TInt32;
import org.tensorflow.types.TString;

/** Answers requests by the signatures of a SavedModel in this process: MODEL REQUESTS ANSWERS [--library SO] [--bench CALLS]. */
public final class SavedModelClient {
  private SavedModelClient() {}

  public static void main(String[] args) throws Exception {
    int bench = 0;
    for (int i = 3; i + 1 < args.length; i += 2) {
      if (args[i].equals("--library")) {
        TensorFlow.loadLibrary(args[i + 1]);
      } else if (args[i].equals("--bench")) {
        bench = Integer.parseInt(args[i + 1]);
      }
    }
    System.out.println("TensorFlow " + TensorFlow.version());
    try (SavedModelBundle model = SavedModelBundle.load(args[0], SavedModelBundle.DEFAULT_TAG);
        PrintStream out = new PrintStream(args[2], StandardCharsets.UTF_8)) {
      for (Exchange.Request request : Exchange.requests(Files.readAllLines(Path.of(args[1])))) {
        out.println(answer(model.function(request.signature()), request, bench));
      }
    }
  }

  private static String answer(SessionFunction function, Exchange.Request request, int bench) {
    Map<String, Tensor> inputs = new LinkedHashMap<>();
    List<String> lines = new ArrayList<>();
    try {
      request.inputs().forEach(values -> inputs.put(values.name(), tensor(values)));
      try (Result result = function.call(inputs)) {
        result.forEach(output -> lines.add(values(output.getKey(), output.getValue()).line()));
      }
      String ms = bench == 0 ? "" : Double.toString(Exchange.medianMs(bench, () -> function.call(inputs).close()));
      lines.add(0, "answer\t" + ms);
    } catch (RuntimeException error) {
      lines.clear();
      lines.add("error\t" + Exchange.text(String.valueOf(error.getMessage()).getBytes(StandardCharsets.UTF_8)));
    } finally {
      inputs.values().forEach(Tensor::close);
    }
    return String.join("\n", lines) + "\n";
  }

  private static Tensor tensor(Exchange.Values values) {
    Shape shape = Shape.of(values.shape());
    return switch (values.dtype()) {
      case "string" -> TString.tensorOfBytes(NdArrays.wrap(shape, DataBuffers.ofObjects(values.bytes())));
      case "int32" -> TInt32.tensorOf(shape, DataBuffers.of(values.ints()));
      case "float32" -> TFloat32.tensorOf(shape, DataBuffers.of(values.floats()));
      case "bool" -> TBool.tensorOf(shape, DataBuffers.of(values.booleans()));
      default -> throw new IllegalArgumentException("there is no dtype " + values.dtype() + " here");
    };
  }

  private static Exchange.Values values(String name, Tensor tensor) {
    List<String> texts = new ArrayList<>();
    String dtype;
    if (tensor instanceof TString strings) {
      dtype = "string";
      strings.asBytes().scalars().forEach(one -> texts.add(Exchange.text(one.getObject())));
    } else if (tensor instanceof TFloat32 floats) {
      dtype = "float32";
      floats.scalars().forEach(one -> texts.add(Exchange.text(one.getFloat())));
    } else if (tensor instanceof TInt32 ints) {
      dtype = "int32";
      ints.scalars().forEach(one -> texts.add(Integer.toString(one.getInt())));
    } else if (tensor instanceof TBool bools) {
      dtype = "bool";
      bools.scalars().forEach(one -> texts.add(Exchange.text(one.getBoolean())));
    } else {
      throw new IllegalArgumentException("there is no dtype " + tensor.dataType() + " here");
    }
    return new Exchange.Values(name, dtype, tensor.shape().asArray(), texts);
  }
}
