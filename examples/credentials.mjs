// For a program that must have the secret itself, such as one that speaks no HTTP. Needs the scope
// connect:credentials:read, and `export = true` in [vault].
//   node credentials.mjs EXTERNAL_USER_ID
import { PipedreamClient } from "@pipedream/sdk";

const externalUserId = process.argv[2];
const client = new PipedreamClient();
const { data } = await client.accounts.list({ externalUserId, app: "slack", includeCredentials: true });
const { credentials } = data[0];
// By the names of the app's fields; of an OAuth account, `oauthAccessToken`.
console.log(Object.keys(credentials).join(" "));
