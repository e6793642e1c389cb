"""Does a model fit, and how many tokens does it keep: vLLM's memory arithmetic, done before vLLM is started."""
