// HTTP/2 in clear text with Node's own module: `server PORT`, or `client URL COUNT`, all of them at once.
'use strict';
const http2 = require('node:http2');
const [mode, where, count] = process.argv.slice(2);

if (mode === 'server') {
  const server = http2.createServer({ settings: { maxConcurrentStreams: 1000 } });
  server.on('stream', (stream, headers) => {
    if (headers[':path'] === '/missing') {
      stream.respond({ ':status': 404 });
      return stream.end('404 page not found\n');
    }
    const parts = [];
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => {
      stream.respond({ ':status': 200 });
      stream.end(Buffer.concat(parts));
    });
  });
  server.listen(Number(where), '127.0.0.1');
} else {
  const session = http2.connect(where);
  const call = (turn) => new Promise((resolve, reject) => {
    const missing = turn % 3 === 0;
    const size = (turn % 5) * 1000;
    const headers = missing ? { ':path': '/missing' } : { ':path': '/echo', ':method': 'POST' };
    const request = session.request(headers);
    let read = 0;
    request.on('data', (part) => { read += part.length; });
    request.on('end', () => (missing || read === size ? resolve() : reject(new Error(`${turn}: ${read}`))));
    request.on('error', reject);
    request.end(missing ? undefined : 'x'.repeat(size));
  });
  Promise.all(Array.from({ length: Number(count) }, (_, turn) => call(turn)))
    .then(() => session.close(), (error) => { console.error(error); process.exit(1); });
}
