import hypothesis

# The same cases in every run, and no deadline: the machine's load is not what is tested.
hypothesis.settings.register_profile("itermix", deadline=None, derandomize=True)
hypothesis.settings.load_profile("itermix")
