// A backend of Node's stock server that writes a line of JSON for each request: `node recorder.mjs HOST PORT FILE`.
// `…/early` is answered before its body is read; anything else once the body is whole.
import { appendFileSync } from 'node:fs';
import http from 'node:http';

const [host, port, file] = process.argv.slice(2);
const record = (request, body) => {
  const headers = [];
  for (let n = 0; n < request.rawHeaders.length; n += 2) headers.push(request.rawHeaders.slice(n, n + 2));
  const line = { method: request.method, target: request.url, headers, body: body.toString('latin1') };
  appendFileSync(file, JSON.stringify(line) + '\n');
};
const server = http.createServer((request, response) => {
  if (request.url.endsWith('/early')) {
    record(request, Buffer.alloc(0));
    response.writeHead(401, { 'content-length': 5 });
    response.end('early');
    return;
  }
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    record(request, Buffer.concat(parts));
    response.end('whole');
  });
});
server.listen(Number(port), host, () => console.log('ready'));
