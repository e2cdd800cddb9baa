// Steps of commands with node-redis: port, steps as JSON.
const { createClient } = require("redis");

async function main() {
  const [port, steps] = process.argv.slice(2);
  const client = createClient({ socket: { port: Number(port), host: "127.0.0.1" } });
  await client.connect();
  for (const [how, commands] of JSON.parse(steps)) {
    if (how === "one") {
      for (const words of commands) await client.sendCommand(words).catch(() => {});
    } else if (how === "pipeline") {
      await Promise.allSettled(commands.map((words) => client.sendCommand(words)));
    } else {
      const multi = client.multi();
      for (const words of commands) multi.addCommand(words);
      await multi.exec();
    }
  }
  await client.disconnect();
  console.log("done");
}

main();
