// A small web server that uses what servers use: worker threads, hashes, files, timers.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

if (!isMainThread) {
  // On a thread of its own, and on libuv's pool below it.
  crypto.scrypt(workerData, 'salt', 32, { N: 1024 }, (error, key) => {
    parentPort.postMessage(error ? String(error) : key.toString('hex'));
  });
  return;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'server-'));

// A line of this process's status, as proc_pid_status(5) names it.
function status(name) {
  const lines = fs.readFileSync('/proc/self/status', 'utf8').split('\n');
  return lines.find((line) => line.startsWith(`${name}:`)).split(/\s+/)[1];
}

function answer(key) {
  const file = path.join(folder, 'answer');
  fs.writeFileSync(file, key);
  return JSON.stringify({
    version: process.version,
    uid: process.getuid(),
    capabilities: status('CapEff'),
    key: fs.readFileSync(file, 'utf8'),
    random: crypto.randomBytes(8).toString('hex'),
    memory: os.totalmem(),
  });
}

const server = http.createServer((request, response) => {
  if (request.url === '/healthz') {
    response.end('ok\n');
    return;
  }
  const worker = new Worker(__filename, { workerData: 'password' });
  worker.once('message', (key) => response.end(answer(key)));
  worker.once('error', (error) => {
    response.statusCode = 500;
    response.end(String(error));
  });
});
server.listen(80, () => console.log('listening on port 80'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
