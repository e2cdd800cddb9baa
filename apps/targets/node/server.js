// Test target: Node's own http module, one event loop, no instrumentation.
// Usage: server.js PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.
'use strict';
const http = require('node:http');

const agent = new http.Agent({ keepAlive: true });

function text(response, body, code = 200) {
  response.writeHead(code, { 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

function pieces(response, n, piece, pause) {
  if (n === 0) return response.end();
  response.write(piece);
  setTimeout(pieces, pause, response, n - 1, piece, pause);
}

function big(response, left) {
  const block = Buffer.alloc(65536);
  while (left > 0) {
    left -= block.length;
    if (!response.write(block)) return response.once('drain', () => big(response, left));
  }
  response.end();
}

function call(response, url) {
  http.get(url, { agent }, (answer) => {
    answer.resume();
    answer.on('end', () => text(response, `called ${answer.statusCode}\n`));
  }).on('error', (error) => text(response, `${error.message}\n`, 502));
}

function route(request, response) {
  const url = new URL(request.url, 'http://localhost');
  const [first, argument = ''] = url.pathname.slice(1).split('/');
  const number = (key, fallback) => Number(url.searchParams.get(key) ?? fallback);
  switch (first) {
    case '': return text(response, 'hello\n');
    case 'hello': return text(response, `hello ${argument}\n`);
    case 'users': return text(response, `{"id":"${argument}"}\n`);
    case 'work': {
      const end = performance.now() + number('us', 100) / 1000;
      while (performance.now() < end);
      return text(response, 'worked\n');
    }
    case 'echo': {
      const body = [];
      request.on('data', (piece) => body.push(piece));
      return request.on('end', () => text(response, Buffer.concat(body)));
    }
    case 'status': {
      const code = Number(argument);
      if (code === 204 || code === 304) {
        response.writeHead(code);
        return response.end();
      }
      return text(response, `status ${code}\n`, code);
    }
    case 'chunked': return pieces(response, number('n', 4), 'x'.repeat(1024), 0);
    case 'sse':
      response.setHeader('Content-Type', 'text/event-stream');
      return pieces(response, number('n', 5), 'data: tick\n\n', 2);
    case 'big':
      response.setHeader('Content-Length', number('mb', 1) * 1048576);
      return big(response, number('mb', 1) * 1048576);
    case 'call': return call(response, url.searchParams.get('url'));
    case 'slow': return setTimeout(() => text(response, 'slept\n'), number('ms', 10));
    default: return text(response, 'not found\n', 404);
  }
}

const server = http.createServer({ keepAliveTimeout: 60000, maxHeaderSize: 128 * 1024 }, route);
server.listen(Number(process.argv[2] ?? process.env.PORT ?? 0), '127.0.0.1', 4096, () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
