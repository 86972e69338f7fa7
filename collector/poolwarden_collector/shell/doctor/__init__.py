"""The collector's own condition: is it able to do its work when it is needed?"""
