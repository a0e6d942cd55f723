// A certified authorization server (the package oidc-provider) on a free port of this machine. It
// prints its port. Whoever comes to log in is ann, and ann consents to everything.
import http from 'node:http';
import { Provider } from 'oidc-provider';

const redirect = 'https://cs.example/callback';
const grants = [
  'authorization_code',
  'refresh_token',
  'client_credentials',
  'urn:ietf:params:oauth:grant-type:device_code',
];
const account = (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: 'ann@acme.example' }) });

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://as.acme.test:${port}`, {
    clients: [{
      client_id: 'cid',
      client_secret: 'client-secret-1',
      redirect_uris: [redirect],
      grant_types: grants,
      response_types: ['code'],
      scope: 'openid email offline_access read',
    }],
    scopes: ['openid', 'email', 'offline_access', 'read'],
    claims: { email: ['email'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['not-a-secret-in-a-test'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
    },
    findAccount: account,
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: async () => true,
    rotateRefreshToken: true,
    ttl: { AccessToken: 600, ClientCredentials: 600, RefreshToken: 86400, Grant: 86400, Session: 3600, Interaction: 600, DeviceCode: 600, IdToken: 600 },
  });
  const answer = provider.callback();

  async function consent(clientId, accountId) {
    const grant = new provider.Grant({ accountId, clientId });
    grant.addOIDCScope('openid email offline_access read');
    return grant.save();
  }

  async function interact(req, res) {
    const { prompt, params, session } = await provider.interactionDetails(req, res);
    const result = prompt.name === 'login'
      ? { login: { accountId: 'ann' } }
      : { consent: { grantId: await consent(params.client_id, session.accountId) } };
    await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: true });
  }

  // What ann's browser would do on the page for devices.
  async function approve(url, res) {
    const code = await provider.DeviceCode.findByUserCode(url.searchParams.get('user_code').replaceAll('-', ''));
    const client = await provider.Client.find(code.clientId);
    Object.assign(code, {
      accountId: 'ann',
      grantId: await consent(client.clientId, 'ann'),
      scope: 'openid email offline_access read',
      authTime: Math.floor(Date.now() / 1000),
    });
    await code.save();
    res.end('approved');
  }

  server.on('request', (req, res) => {
    const url = new URL(req.url, 'http://as.acme.test');
    const failed = (error) => { res.statusCode = 500; res.end(String(error.stack)); };
    if (url.pathname.startsWith('/interaction/')) interact(req, res).catch(failed);
    else if (url.pathname === '/approve') approve(url, res).catch(failed);
    else answer(req, res);
  });
  console.log(port);
});
