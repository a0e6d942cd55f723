// A Slack message from a program that holds no token.
import { LogLevel, WebClient } from '@slack/web-api';

const client = new WebClient(undefined, {
  logLevel: LogLevel.ERROR,
  retryConfig: { retries: 0 },
});
const answer = await client.chat.postMessage({ channel: '#general', text: 'Sent without a token' });
console.log(answer.ok, answer.ts);
