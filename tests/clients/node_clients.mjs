// Node HTTP clients as people use them: no token and no CA setting in the code.
// Usage: node_clients.mjs CLIENT URL. Posts {"from": CLIENT} and prints the answer's body.

const post = (name) => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ from: name }),
});

async function text(answer) {
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.text();
}

const clients = {
  // Global fetch; needs NODE_USE_ENV_PROXY=1.
  fetch: async (url) => text(await fetch(url, post('fetch'))),

  // What Node before 22.21 needs.
  undici: async (url) => {
    const { EnvHttpProxyAgent, fetch, setGlobalDispatcher } = await import('undici');
    setGlobalDispatcher(new EnvHttpProxyAgent());
    return text(await fetch(url, post('undici')));
  },

  axios: async (url) => {
    const { default: axios } = await import('axios');
    const answer = await axios.post(url, { from: 'axios' }, { responseType: 'text' });
    return answer.data;
  },

  // The core module; needs NODE_USE_ENV_PROXY=1.
  https: async (url) => {
    const { request } = await import('node:https');
    return new Promise((resolve, reject) => {
      const { body, ...options } = post('https');
      const sent = request(url, options, (answer) => {
        let received = '';
        answer.on('data', (piece) => (received += piece));
        answer.on('end', () => resolve(received));
      });
      sent.on('error', reject);
      sent.end(body);
    });
  },
};

const [name, url] = process.argv.slice(2);
console.log(await clients[name](url));
process.exit(0);
