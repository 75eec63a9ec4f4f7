// Creates a worker, gives it untrusted code, sends it a task and prints its answer.
//
//   stockade run examples/quickstart.js

const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate();

worker.on('result', (data) => {
  console.log('Result:', data);
  worker.destroy();
  sandbox.shutdown();
});

worker.execute(`
  NETWORK.on('compute', (data) => {
    NETWORK.send('result', { answer: data.x + data.y });
  });
`);

worker.send('compute', { x: 10, y: 5 });
