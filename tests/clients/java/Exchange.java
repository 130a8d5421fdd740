import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/** Requests and answers as lines of text; tests/clients/exchange.py says how they look. */
final class Exchange {
  /** A request: the name of a signature and its inputs. */
  record Request(String signature, List<Values> inputs) {}

  /** A tensor: strings as bytes, and of other types each value as text. */
  record Values(String name, String dtype, long[] shape, List<String> texts) {
    byte[][] bytes() {
      return texts.stream().map(HexFormat.of()::parseHex).toArray(byte[][]::new);
    }

    int[] ints() {
      return texts.stream().mapToInt(Integer::parseInt).toArray();
    }

    float[] floats() {
      float[] floats = new float[texts.size()];
      for (int i = 0; i < floats.length; i++) {
        floats[i] = Float.intBitsToFloat(Integer.parseUnsignedInt(texts.get(i), 16));
      }
      return floats;
    }

    boolean[] booleans() {
      boolean[] booleans = new boolean[texts.size()];
      for (int i = 0; i < booleans.length; i++) {
        booleans[i] = texts.get(i).equals("1");
      }
      return booleans;
    }

    String line() {
      List<String> sizes = new ArrayList<>();
      for (long size : shape) {
        sizes.add(Long.toString(size));
      }
      return String.join("\t", name, dtype, String.join(",", sizes), String.join(",", texts));
    }
  }

  private Exchange() {}

  static List<Request> requests(List<String> lines) {
    List<Request> requests = new ArrayList<>();
    for (String line : lines) {
      // With empty fields at the end.
      String[] fields = line.split("\t", -1);
      if (fields[0].equals("request")) {
        requests.add(new Request(fields[1], new ArrayList<>()));
      } else if (!line.isEmpty()) {
        requests.get(requests.size() - 1).inputs.add(values(fields));
      }
    }
    return requests;
  }

  private static Values values(String[] fields) {
    String[] sizes = fields[2].isEmpty() ? new String[0] : fields[2].split(",");
    long[] shape = new long[sizes.length];
    long count = 1;
    for (int i = 0; i < sizes.length; i++) {
      shape[i] = Long.parseLong(sizes[i]);
      count *= shape[i];
    }
    return new Values(fields[0], fields[1], shape, count == 0 ? List.of() : List.of(fields[3].split(",", -1)));
  }

  static String text(byte[] bytes) {
    return HexFormat.of().formatHex(bytes);
  }

  static String text(float value) {
    return HexFormat.of().formatHex(ByteBuffer.allocate(4).putInt(Float.floatToRawIntBits(value)).array());
  }

  static String text(boolean value) {
    return value ? "1" : "0";
  }

  /** The median time of a call in milliseconds, after some that aren't measured. */
  static double medianMs(int calls, Runnable call) {
    double[] ms = new double[calls];
    for (int i = -50; i < calls; i++) {
      long start = System.nanoTime();
      call.run();
      if (i >= 0) {
        ms[i] = (System.nanoTime() - start) / 1e6;
      }
    }
    java.util.Arrays.sort(ms);
    return ms[calls / 2];
  }
}
