// Names of what carries a credential: the words of the Python client, which a test compares.
"use strict";

module.exports = {
  // Headers whose values are hidden, in lower case.
  SECRET_HEADERS: ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"],
  // Ends of names of URL parameters that carry a credential, and words that must be separate words.
  LONG_NAMES: [
    ...["token", "tokenid", "token_id", "token-id", "secret", "password", "passwd", "passphrase", "signature"],
    ...["credential", "credentials", "apikey", "api_key", "api-key", "authorization"],
    ...["sessionid", "session_id", "session-id"],
  ],
  SHORT_NAMES: ["auth", "sig", "otp", "pwd", "jwt", "sid"],
  // Names of password fields, in selectors and labels: patterns, and words that must be separate words.
  LONG_WORDS: ["pass(?:w(?:or)?[dt]|phrase|code)", "secret", "one[-_ ]?time[-_ ]?(?:code|pass)"],
  SHORT_WORDS: ["pin", "otp", "totp", "pwd", "pass", "cvv", "cvc"],
};
