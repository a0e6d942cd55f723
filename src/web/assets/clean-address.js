// Takes a code, state or token out of the address bar, and so out of the history.
history.replaceState(null, "", location.pathname);
