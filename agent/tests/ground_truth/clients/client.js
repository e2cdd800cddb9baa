// Ground-truth client: a line of JSON on stdin is one request, a line on stdout is what came of it.
'use strict';
const http = require('node:http');
const readline = require('node:readline');

const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const plan = JSON.parse(line);
  const headers = { ...plan.headers };
  if (plan.body) headers['Content-Length'] = plan.body;
  const request = http.request(plan.url, { agent, method: plan.method, headers }, (response) => {
    const local_port = response.socket.localPort;
    let received = 0;
    response.on('data', (piece) => (received += piece.length));
    response.on('end', () => {
      console.log(JSON.stringify({ id: plan.id, status: response.statusCode, received, local_port }));
    });
  });
  request.end('b'.repeat(plan.body));
}).on('close', () => agent.destroy());
