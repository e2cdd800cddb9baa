// JDBC: what every PostgreSQL client of these tests does, with a cursor and a batch.
import java.sql.*;

public class Client {
    static void count(String url, int times) throws SQLException {
        try (Connection conn = DriverManager.getConnection(url);
                PreparedStatement count = conn.prepareStatement("SELECT count(*) FROM songs WHERE id < ?")) {
            for (int n = 0; n < times; n++) {
                count.setInt(1, n);
                count.executeQuery().next();
            }
        }
    }

    public static void main(String[] args) throws Exception {
        try (Connection conn = DriverManager.getConnection(args[0]); Statement plain = conn.createStatement()) {
            try (PreparedStatement insert = conn.prepareStatement("INSERT INTO songs (id, title) VALUES (?, ?)")) {
                insert.setInt(1, 100);
                insert.setString(2, "secret");
                insert.executeUpdate();
            }
            plain.executeUpdate("UPDATE songs SET title = 'secret' WHERE id = 100");
            try (PreparedStatement byId = conn.prepareStatement("SELECT id, title FROM songs WHERE id = ?")) {
                for (int n = 0; n < 10; n++) { // the sixth time, it is prepared by name
                    byId.setInt(1, 1 + n % 3);
                    byId.executeQuery().next();
                }
            }
            try {
                plain.executeQuery("SELECT secret FROM nowhere");
            } catch (SQLException expected) {
            }
            ResultSet numbers = plain.executeQuery("SELECT id FROM numbers");
            while (numbers.next()) {}
            try (PreparedStatement batch = conn.prepareStatement("SELECT title FROM songs WHERE id = ?")) {
                for (int n = 0; n < 20; n++) {
                    batch.setInt(1, 1 + n % 3);
                    batch.executeQuery().next();
                }
            }
        }
        Thread[] threads = new Thread[4];
        for (int n = 0; n < 4; n++) {
            threads[n] = new Thread(() -> {
                try {
                    count(args[0], 25);
                } catch (SQLException error) {
                    throw new RuntimeException(error);
                }
            });
            threads[n].start();
        }
        for (Thread thread : threads) thread.join();
    }
}
