// mysql2: prepared statements and a pool.
const mysql = require("mysql2/promise");

async function main(port) {
  const options = { host: "127.0.0.1", port, user: "ada", password: "secret", database: "shop" };
  const conn = await mysql.createConnection(options);
  await conn.execute("INSERT INTO songs (id, title) VALUES (?, ?)", [100, "secret"]);
  await conn.query("UPDATE songs SET title = 'secret' WHERE id = 100");
  for (let n = 0; n < 10; n++) await conn.execute("SELECT id, title FROM songs WHERE id = ?", [1 + (n % 3)]);
  await conn.query("SELECT secret FROM nowhere").catch(() => {});
  await conn.query("SELECT id FROM numbers");
  await conn.ping();
  await conn.end();
  const pool = mysql.createPool({ ...options, connectionLimit: 4 });
  const all = [];
  for (let n = 0; n < 100; n++) all.push(pool.execute("SELECT count(*) FROM songs WHERE id < ?", [n]));
  await Promise.all(all);
  await pool.end();
}

main(Number(process.argv[2]));
