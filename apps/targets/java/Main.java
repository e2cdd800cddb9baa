import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Executors;

/**
 * Test target: the JDK's own HTTP server with a thread pool, blocking outbound calls, no instrumentation.
 * Usage: java Main.java PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.
 */
public final class Main {
    public static void main(String[] arguments) throws IOException {
        String fromEnvironment = System.getenv().getOrDefault("PORT", "0");
        int port = Integer.parseInt(arguments.length > 0 ? arguments[0] : fromEnvironment);
        HttpServer server =
                HttpServer.create(new InetSocketAddress(InetAddress.getByName("127.0.0.1"), port), 1024);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", Main::route);
        server.start();
        System.out.println("listening on 127.0.0.1:" + server.getAddress().getPort());
    }

    private static void route(HttpExchange exchange) throws IOException {
        try (exchange) {
            String[] parts = exchange.getRequestURI().getPath().substring(1).split("/");
            String argument = parts.length > 1 ? parts[1] : "";
            Map<String, String> query = query(exchange.getRequestURI());
            switch (parts[0]) {
                case "" -> text(exchange, 200, "hello\n");
                case "hello" -> text(exchange, 200, "hello " + argument + "\n");
                case "users" -> text(exchange, 200, "{\"id\":\"" + argument + "\"}\n");
                case "work" -> {
                    work(number(query, "us", 100));
                    text(exchange, 200, "worked\n");
                }
                case "echo" -> reply(exchange, 200, exchange.getRequestBody().readAllBytes());
                case "status" -> status(exchange, Integer.parseInt(argument));
                case "chunked" -> pieces(exchange, number(query, "n", 4), new byte[1024], 0, 0);
                case "sse" -> {
                    exchange.getResponseHeaders().set("Content-Type", "text/event-stream");
                    byte[] tick = "data: tick\n\n".getBytes(StandardCharsets.UTF_8);
                    pieces(exchange, number(query, "n", 5), tick, 2, 0);
                }
                case "big" -> {
                    int size = number(query, "mb", 1);
                    pieces(exchange, size * 16, new byte[65536], 0, (long) size << 20);
                }
                case "call" -> text(exchange, 200, "called " + call(query.get("url")) + "\n");
                case "slow" -> {
                    pause(number(query, "ms", 10));
                    text(exchange, 200, "slept\n");
                }
                default -> text(exchange, 404, "not found\n");
            }
        }
    }

    private static Map<String, String> query(URI uri) {
        Map<String, String> values = new HashMap<>();
        if (uri.getRawQuery() != null) {
            for (String pair : uri.getRawQuery().split("&")) {
                String[] halves = pair.split("=", 2);
                String value = halves.length > 1 ? halves[1] : "";
                values.put(halves[0], URLDecoder.decode(value, StandardCharsets.UTF_8));
            }
        }
        return values;
    }

    private static int number(Map<String, String> query, String key, int fallback) {
        return query.containsKey(key) ? Integer.parseInt(query.get(key)) : fallback;
    }

    private static void text(HttpExchange exchange, int code, String body) throws IOException {
        reply(exchange, code, body.getBytes(StandardCharsets.UTF_8));
    }

    private static void reply(HttpExchange exchange, int code, byte[] body) throws IOException {
        if (exchange.getRequestMethod().equals("HEAD")) {
            exchange.getResponseHeaders().set("Content-Length", Integer.toString(body.length));
            exchange.sendResponseHeaders(code, -1);
            return;
        }
        exchange.sendResponseHeaders(code, body.length == 0 ? -1 : body.length);
        if (body.length > 0) {
            exchange.getResponseBody().write(body);
        }
    }

    private static void status(HttpExchange exchange, int code) throws IOException {
        if (code == 204 || code == 304) {
            exchange.sendResponseHeaders(code, -1);
        } else {
            text(exchange, code, "status " + code + "\n");
        }
    }

    private static void pieces(HttpExchange exchange, int n, byte[] piece, int pauseMs, long size)
            throws IOException {
        exchange.sendResponseHeaders(200, size);
        OutputStream out = exchange.getResponseBody();
        for (int i = 0; i < n; i++) {
            out.write(piece);
            out.flush();
            pause(pauseMs);
        }
    }

    private static int call(String url) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        int code = connection.getResponseCode();
        InputStream body = code < 400 ? connection.getInputStream() : connection.getErrorStream();
        if (body != null) {
            body.readAllBytes();
            body.close();
        }
        return code;
    }

    private static void work(int us) {
        long end = System.nanoTime() + us * 1000L;
        while (System.nanoTime() < end) {
            Thread.onSpinWait();
        }
    }

    private static void pause(int ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
