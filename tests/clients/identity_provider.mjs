// A certified OpenID Connect provider (the package oidc-provider) on a free port of this machine, at
// which members log in. It prints its port. /become?as=NAME says who comes in next; everybody
// consents.
import http from 'node:http';
import { Provider } from 'oidc-provider';

const people = {
  ann: { email: 'ann@acme.test', email_verified: true, name: 'Ann of the provider' },
  ben: { email: 'ben@acme.test', email_verified: false, name: 'Ben' },
  cat: { email: 'cat@corp.test', email_verified: true, name: '<img src=x onerror=alert(1)>' },
  eve: { email: 'eve@evil.test', email_verified: true, name: 'Eve' },
};
let present = 'ann';

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://idp.acme.test:${port}`, {
    clients: [{
      client_id: 'workspace',
      client_secret: 'workspace-secret-1',
      application_type: 'native',
      // Of a native client any port will do.
      redirect_uris: ['http://127.0.0.1/login/callback'],
      grant_types: ['authorization_code'],
      response_types: ['code'],
    }],
    claims: { email: ['email', 'email_verified'], profile: ['name'] },
    cookies: { keys: ['not-a-secret-in-a-test'] },
    features: { devInteractions: { enabled: false } },
    pkce: { required: () => true },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 86400, IdToken: 600, Interaction: 600, Session: 3600 },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  });
  const answer = provider.callback();

  async function interact(req, res) {
    const { prompt, params, session } = await provider.interactionDetails(req, res);
    let result = { login: { accountId: present } };
    if (prompt.name !== 'login') {
      const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      grant.addOIDCScope('openid email profile');
      result = { consent: { grantId: await grant.save() } };
    }
    await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: true });
  }

  server.on('request', (req, res) => {
    const url = new URL(req.url, 'http://idp.acme.test');
    const failed = (error) => { res.statusCode = 500; res.end(String(error.stack)); };
    if (url.pathname === '/become') {
      present = url.searchParams.get('as');
      res.end(present);
    } else if (url.pathname.startsWith('/interaction/')) interact(req, res).catch(failed);
    else answer(req, res);
  });
  console.log(port);
});
