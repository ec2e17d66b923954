// Node's own http and onnxruntime-node, one thread: FILE MODEL PORT, found by NODE_PATH.
"use strict";
const http = require("node:http");
const ort = require("onnxruntime-node");

async function main(file, port) {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });

  async function predict(body) {
    const { inputs } = JSON.parse(body);
    const columns = inputs[0].length;
    const data = new Float32Array(inputs.length * columns);
    for (let row = 0; row < inputs.length; row++) data.set(inputs[row], row * columns);
    const found = await session.run({ X: new ort.Tensor("float32", data, [inputs.length, columns]) });
    const flat = found.probabilities.data;
    const classes = found.probabilities.dims[1];
    const probabilities = [];
    for (let at = 0; at < flat.length; at += classes) probabilities.push(Array.from(flat.subarray(at, at + classes)));
    return JSON.stringify({ label: Array.from(found.label.data, Number), probabilities });
  }

  http
    .createServer((request, response) => {
      const parts = [];
      request.on("data", (part) => parts.push(part));
      request.on("end", async () => {
        try {
          const text = await predict(Buffer.concat(parts));
          const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) };
          response.writeHead(200, headers).end(text);
        } catch (error) {
          response.writeHead(400).end(String(error));
        }
      });
    })
    .listen(port, "127.0.0.1");
}

main(process.argv[2], Number(process.argv[3]));
