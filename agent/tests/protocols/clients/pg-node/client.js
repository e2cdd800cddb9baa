// node-postgres: what every PostgreSQL client of these tests does, with a pool.
const { Client, Pool } = require("pg");

async function main(connectionString) {
  const client = new Client({ connectionString });
  await client.connect();
  await client.query("INSERT INTO songs (id, title) VALUES ($1, $2)", [100, "secret"]);
  await client.query("UPDATE songs SET title = 'secret' WHERE id = 100");
  for (let n = 0; n < 10; n++) {
    const text = "SELECT id, title FROM songs WHERE id = $1";
    await client.query({ name: "by-id", text, values: [1 + (n % 3)] });
  }
  await client.query("SELECT secret FROM nowhere").catch(() => {});
  await client.query("SELECT id FROM numbers");
  await client.end();
  const pool = new Pool({ connectionString, max: 4 });
  const all = [];
  for (let n = 0; n < 100; n++) all.push(pool.query("SELECT count(*) FROM songs WHERE id < $1", [n]));
  await Promise.all(all);
  await pool.end();
}

main(process.argv[2]);
