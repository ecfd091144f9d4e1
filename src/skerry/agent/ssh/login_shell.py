"""What sshd does after a login, as a script: home folder, the user's own shell, then the command in it."""

from __future__ import annotations

LOGIN = r"""cd "$HOME" 2>/dev/null || cd /
SHELL=
while IFS=: read -r name _ uid _ _ _ shell; do
  if [ "$name" = "$USER" ] || [ "$uid" = "$USER" ]; then USER=$name LOGNAME=$name SHELL=$shell; break; fi
done 2>/dev/null </etc/passwd
[ -x "$SHELL" ] || SHELL=/bin/sh
unset OLDPWD
export USER LOGNAME SHELL
if [ $# -gt 0 ]; then exec "$SHELL" -c "$1"; fi
exec "$SHELL" -l
"""
"""Run as `sh -c LOGIN ssh [COMMAND]` with USER set to a name or number. Without a child: a login costs one shell more
than an exec, and no fork. SSH_CONNECTION and the like are set outside."""
