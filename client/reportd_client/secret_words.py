"""Names of what carries a credential. The same file is in the server and in the client; a test compares the two."""

# Headers whose values are hidden, in lower case.
SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key")

# Names of URL parameters that carry a credential: names that end with one of the long words, like `access_token`,
# `newPassword` or `user[password]`, and the short words as separate words.
LONG_NAMES = (
    *("token", "tokenid", "token_id", "token-id", "secret", "password", "passwd", "passphrase", "signature"),
    *("credential", "credentials", "apikey", "api_key", "api-key", "authorization"),
    *("sessionid", "session_id", "session-id"),
)
SHORT_NAMES = ("auth", "sig", "otp", "pwd", "jwt", "sid")

# Names of password fields, in selectors, identifiers and labels: patterns, and words that must be separate words, as in
# `userPin`, `otpCode` or `USER_PIN`. Otherwise `spinner` and `opinion` would match.
LONG_WORDS = ("pass(?:w(?:or)?[dt]|phrase|code)", "secret", "one[-_ ]?time[-_ ]?(?:code|pass)")
SHORT_WORDS = ("pin", "otp", "totp", "pwd", "pass", "cvv", "cvc")
