def fit_faithful(*a, **k): raise NotImplementedError
