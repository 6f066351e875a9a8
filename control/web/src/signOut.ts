import { post } from "./api";
import * as session from "./session";

/** Make every token issued so far stop working, on all devices. */
export async function signOutEverywhere(): Promise<void> {
  await post("auth/revoke");
  session.end();
}
