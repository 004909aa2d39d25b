// A thin client of the Runtime API over one connection: Lambda's own has a native part that is built for Lambda's machines. This does
// less than that one, which favours Node. usage: node runtime.mjs ./handler.mjs

import { Agent, request } from 'node:http';

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function exchange(method, path, body = '') {
  return new Promise((resolve, reject) => {
    const headers = method === 'POST' ? { 'content-length': Buffer.byteLength(body) } : {};
    const sent = request({ agent, host, port, method, path: `/2018-06-01/runtime/${path}`, headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (part) => (text += part));
      answer.on('end', () => resolve({ text, id: answer.headers['lambda-runtime-aws-request-id'] }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const { handler } = await import(new URL(process.argv[2], import.meta.url));
while (true) {
  const { id, text } = await exchange('GET', 'invocation/next');
  try {
    await exchange('POST', `invocation/${id}/response`, JSON.stringify(await handler(JSON.parse(text))));
  } catch (error) {
    await exchange('POST', `invocation/${id}/error`, JSON.stringify({ errorType: error.name, errorMessage: error.message }));
  }
}
