import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.URI;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Ground-truth client: a line of JSON on stdin is one request, a line on stdout is what came of it. Eight threads
 * with HttpURLConnection. The JSON is the test's own and flat but for the headers: patterns are enough to read it.
 */
public final class Client {
    private static final Pattern HEADER = Pattern.compile("\"([^\"]+)\":\"([^\"]*)\"");

    public static void main(String[] arguments) throws IOException {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String plan = line;
            pool.submit(() -> fetch(plan));
        }
        pool.shutdown();
    }

    private static String field(String plan, String pattern) {
        Matcher found = Pattern.compile(pattern).matcher(plan);
        return found.find() ? found.group(1) : "";
    }

    private static void fetch(String plan) {
        try {
            String url = field(plan, "\"url\":\"([^\"]+)\"");
            HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
            connection.setRequestMethod(field(plan, "\"method\":\"([^\"]+)\""));
            Matcher headers = HEADER.matcher(field(plan, "\"headers\":(\\{[^}]*\\})"));
            while (headers.find()) {
                connection.setRequestProperty(headers.group(1), headers.group(2));
            }
            int body = Integer.parseInt(field(plan, "\"body\":(\\d+)"));
            if (body > 0) {
                connection.setDoOutput(true);
                connection.setFixedLengthStreamingMode(body);
                connection.getOutputStream().write("b".repeat(body).getBytes());
            }
            int status = connection.getResponseCode();
            InputStream answer = status < 400 ? connection.getInputStream() : connection.getErrorStream();
            int received = answer == null ? 0 : answer.readAllBytes().length;
            String id = field(plan, "\"id\":(\\d+)");
            System.out.println("{\"id\":" + id + ",\"status\":" + status + ",\"received\":" + received + "}");
        } catch (IOException error) {
            System.err.println(plan + ": " + error);
        }
    }
}
